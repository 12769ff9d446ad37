"""Facts of a model's folder, read without loading the model."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamontage.digests import file_digest
from dreamontage.files import read_json, write_text

_DETERMINING = {".json", ".safetensors", ".bin", ".model", ".txt"}
_MEMO = ".revision.json"


def folder_revision(folder: Path) -> str:
    """sha256 over names and contents. Symbolic links (a hub's cache) are followed; reading no
    torch.

    Hashing tens of gigabytes takes a minute, so the result is stored beside the files, where that
    is allowed, and holds for as long as no file's size or time of change differs.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in _DETERMINING and path.name != _MEMO
    )
    if not files:
        raise ValueError(f"{folder} holds no model: no .json or .safetensors file in it")
    stamp = [
        [str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns]
        for path in files
    ]
    memo = folder / _MEMO
    try:
        stored = json.loads(memo.read_text())
        if stored["stamp"] == stamp:
            return str(stored["revision"])
    except (OSError, ValueError, KeyError):
        pass
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n".encode())
    revision = total.hexdigest()
    with contextlib.suppress(OSError):  # a read-only folder is hashed at every load
        write_text(memo, json.dumps({"revision": revision, "stamp": stamp}))
    return revision


def autoencoder_revision(folder: Path) -> str:
    """The same for two models' folders if their latents mean the same: of the autoencoder's kind,
    statistics and weights, whoever wrote the files, from where and with what else in them.

    Raises `ValueError` when there is none.
    """
    config = read_json(folder / "vae" / "config.json")
    config_keys = ("_class_name", "latents_mean", "latents_std")
    total = hashlib.sha256(json.dumps([config.get(key) for key in config_keys]).encode())
    files = sorted((folder / "vae").glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder / 'vae'} holds no .safetensors file")
    for path in files:
        total.update(_tensors(path, path.stat().st_size, path.stat().st_mtime_ns))
    return total.hexdigest()


@functools.lru_cache(maxsize=8)
def _tensors(path: Path, size: int, changed: int) -> bytes:
    """The digest of a file's tensors, in order of their names; cached while the file is the same
    one.
    """
    total = hashlib.sha256()
    with path.open("rb") as file:
        # The format's own layout: a header's length, the header, and where each tensor is.
        start = 8 + (length := int.from_bytes(file.read(8), "little"))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, tensor in sorted(header.items()):
            first, stop = tensor["data_offsets"]
            total.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
            file.seek(start + first)
            total.update(file.read(stop - first))
    return total.digest()


_RENAMED = {
    "maturity": "release_stage",
    "temperature": "initial_noise_scale",
    "tempered_channels": "initial_noise_scale_channels",
}
"""Settings that folders were written with under other names."""


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline's settings under the names that they have now; one under both has the new one's
    value.
    """
    renamed = {_RENAMED.get(name, name): value for name, value in settings.items()}
    return renamed | {name: settings[name] for name in _RENAMED.values() if name in settings}


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json``, with its settings under the names that they have now.

    Raises `ValueError` when it is missing or no JSON.
    """
    return current_names(read_json(folder / "model_index.json"))


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """The model's own sampler settings, whether its films may be shown, and, if it is a
    super-resolution model, what it has of an `Upscaler`.

    ``release_stage``: "smoke" for weights too little trained to show.
    """

    default_steps: int
    default_guidance: float
    default_image_guidance: float
    max_sequence_length: int
    release_stage: str | None
    superres: Mapping[str, Any]

    @property
    def smoke(self) -> bool:
        return self.release_stage == "smoke"


def folder_facts(folder: Path) -> FolderFacts:
    """Read ``model_index.json``; a stock Wan folder has none of these, and gets Wan's usual.

    Raises `ValueError` when it is missing or no JSON.
    """
    index = read_index(folder)
    return FolderFacts(
        default_steps=index.get("default_steps", 50),
        default_guidance=index.get("default_guidance", 5.0),
        default_image_guidance=index.get("default_image_guidance", 1.0),
        max_sequence_length=index.get("max_sequence_length", 512),
        release_stage=index.get("release_stage"),
        superres=index.get("superres") or {},
    )


def flow_shift(folder: Path) -> float:
    """The shift of the scheduler's noise levels; 1 where its config has none.

    Raises `ValueError` when the config is missing or no JSON.
    """
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    return float(config.get("flow_shift", config.get("shift", 1.0)))
