"""The weights that ship: at the top of a clone, or in the package where a wheel was installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def weights(name: str) -> Path:
    """The folder of that name below `weights`."""
    cloned = _PACKAGE.parent / "weights" / name
    return cloned if cloned.is_dir() else _PACKAGE / "weights" / name


def weights_or_none(name: str) -> Path | None:
    """The same of weights that need not ship."""
    folder = weights(name)
    return folder if folder.is_dir() else None
