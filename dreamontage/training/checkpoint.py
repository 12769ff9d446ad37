"""Checkpoints that survive a kill: written whole beside the others, then renamed into place.

Tensors are stored as safetensors and the rest as JSON; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_NAME = "checkpoint-{:09d}"


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` appear with everything that `fill` writes, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    fill(partial)
    for file in partial.rglob("*"):
        if file.is_file():
            to_disk(file)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def write_file(file: Path, fill: Callable[[Path], object]) -> None:
    """Make `file` appear whole, or not at all; several processes may make the same one at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        fill(partial)
        to_disk(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def to_disk(file: Path) -> None:
    """Wait until the disk has all of it."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def save(
    root: Path,
    *,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    facts: Mapping[str, Any],
    keep: int = 2,
) -> None:
    """Store groups of tensors and JSON facts as the checkpoint of `step`; drop older ones."""

    def fill(folder: Path) -> None:
        for name, group in tensors.items():
            held = {key: value.detach().cpu().contiguous() for key, value in group.items()}
            save_file(held, folder / f"{name}.safetensors")
        (folder / "facts.json").write_text(json.dumps({"step": step, **facts}, indent=1) + "\n")

    write_folder(root / _NAME.format(step), fill)
    for old in sorted(root.glob("checkpoint-*"))[:-keep]:
        shutil.rmtree(old)


def load_latest(root: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]] | None:
    """Facts and tensors of the newest checkpoint under `root`; None when there is none."""
    folders = sorted(root.glob("checkpoint-*"))
    if not folders:
        return None
    facts = json.loads((folders[-1] / "facts.json").read_text())
    return facts, {file.stem: load_file(file) for file in folders[-1].glob("*.safetensors")}


def flat(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """An optimiser's state by parameter as named tensors: '<parameter>|<entry>'."""
    return {
        f"{name}|{key}": torch.as_tensor(value)
        for name, entries in state.items()
        for key, value in entries.items()
    }


def nested(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The inverse of `flat`."""
    state: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, key = name.split("|")
        state.setdefault(parameter, {})[key] = value
    return state
