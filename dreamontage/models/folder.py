"""What a model's folder says of itself, read without loading the model."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamontage.keys import file_digest
from dreamontage.plan import read_json

_DETERMINING = {".json", ".safetensors", ".bin", ".model", ".txt"}
_MEMO = ".revision.json"


def folder_revision(folder: Path) -> str:
    """sha256 over names and contents. Symbolic links (a hub's cache) are followed; reading no
    torch.

    Hashing tens of gigabytes takes a minute, so the answer is kept beside the files, where that is
    allowed, for as long as no file's size or time of change differs.
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
        kept = json.loads(memo.read_text())
        if kept["stamp"] == stamp:
            return str(kept["revision"])
    except (OSError, ValueError, KeyError):
        pass
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n".encode())
    revision = total.hexdigest()
    with contextlib.suppress(OSError):  # a read-only folder is hashed at every load
        memo.write_text(json.dumps({"revision": revision, "stamp": stamp}))
    return revision


def autoencoder_revision(folder: Path) -> str:
    """The same for two models' folders if their latents mean the same: of the autoencoder's kind,
    statistics and weights, whoever wrote the files, from where and with what else in them.

    Raises `ValueError` when there is none.
    """
    config = read_json(folder / "vae" / "config.json")
    kept = ("_class_name", "latents_mean", "latents_std")
    total = hashlib.sha256(json.dumps([config.get(key) for key in kept]).encode())
    files = sorted((folder / "vae").glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder / 'vae'} holds no .safetensors file")
    for path in files:
        total.update(_tensors(path, path.stat().st_size, path.stat().st_mtime_ns))
    return total.hexdigest()


@functools.lru_cache(maxsize=8)
def _tensors(path: Path, size: int, changed: int) -> bytes:
    """The digest of a file's tensors, in order of their names; kept while the file is the same."""
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


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """How the model likes to be sampled, whether its films may be shown, and, if it is a
    super-resolution model, what it has of an `Upscaler`."""

    default_steps: int
    default_guidance: float
    default_image_guidance: float
    max_sequence_length: int
    smoke: bool
    superres: Mapping[str, Any]


def folder_facts(folder: Path) -> FolderFacts:
    """Read ``model_index.json``; a stock Wan folder says none of it, and gets Wan's usual.

    Raises `ValueError` when it is missing or no JSON.
    """
    index = read_json(folder / "model_index.json")
    return FolderFacts(
        default_steps=index.get("default_steps", 50),
        default_guidance=index.get("default_guidance", 5.0),
        default_image_guidance=index.get("default_image_guidance", 1.0),
        max_sequence_length=index.get("max_sequence_length", 512),
        smoke=index.get("maturity") == "smoke",
        superres=index.get("superres") or {},
    )
