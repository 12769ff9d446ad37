"""Loading model folders: Wan's with our DiT in it, and without progress bars in logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import diffusers
import diffusers.utils.logging
import transformers.utils.logging

from dreamontage.files import read_json
from dreamontage.models.codec import LinearCodec
from dreamontage.models.transformer import DreaMontageTransformer3DModel


def progress_bars_on_terminal() -> AbstractContextManager[None]:
    """Progress bars fill a worker's log with control characters."""
    return nullcontext() if sys.stderr.isatty() else no_bars()


@contextmanager
def no_bars() -> Iterator[None]:
    """Off, they are for the whole process, so they are put back as they were."""
    switches = [diffusers.utils.logging, transformers.utils.logging]
    active = [each for each in switches if each.is_progress_bar_enabled()]
    for each in active:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in active:
            each.enable_progress_bar()


def autoencoder_folder(folder: Path) -> Path:
    """Where a model's folder has its autoencoder, which may also be a folder of its own."""
    return folder / "vae" if (folder / "vae").is_dir() else folder


def autoencoder_of(folder: Path) -> Any:
    """The autoencoder of its own folder, in diffusers' layout: our codec, or one of diffusers'.

    Raises `ValueError` when the folder holds none.
    """
    name = read_json(folder / "config.json").get("_class_name")
    kind = LinearCodec if name == LinearCodec.__name__ else getattr(diffusers, str(name), None)
    if kind is None or not hasattr(kind, "encode"):
        raise ValueError(f"{folder}: holds no autoencoder; its config names {name!r}")
    with progress_bars_on_terminal():
        vae = kind.from_pretrained(folder, local_files_only=True)
    return vae.eval().requires_grad_(False)


def experts_of(
    folder: Path, settings: Mapping[str, Any]
) -> dict[str, DreaMontageTransformer3DModel]:
    """Our DiT for each of a stock folder's, but for those that ``settings`` hold already.

    A stock folder's index names diffusers' class; ours loads the same files. Our own folders name
    ours, which diffusers finds by itself.

    Args:
        settings: what the pipeline's ``from_pretrained`` was called with.

    Raises:
        ValueError: if the folder holds no ``model_index.json``.
    """
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder} is no model folder: it holds no model_index.json")
    index = read_json(folder / "model_index.json")
    dtype = settings.get("dtype", settings.get("torch_dtype"))

    def load(name: str) -> DreaMontageTransformer3DModel:
        own = dtype.get(name, dtype.get("default")) if isinstance(dtype, Mapping) else dtype
        return DreaMontageTransformer3DModel.from_pretrained(
            folder / name, dtype=own, variant=settings.get("variant")
        )

    return {
        name: load(name)
        for name in ("transformer", "transformer_2")
        if name not in settings and index.get(name, [None])[0] == "diffusers"
    }
