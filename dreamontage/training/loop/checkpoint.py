"""Checkpoints of a run: every process writes its own shards, and the whole appears by a rename.

    checkpoint-000000042/
      facts.json          the step, and what else is no tensor
      shards/             safetensors: model, optimiser and averaged weights

The shards are written and read by `torch.distributed.checkpoint` with its safetensors storage. Its
default storage is not used: it writes `.metadata`, which is a pickle. The safetensors storage keeps
offsets in the header of each file, so nothing that is stored is ever unpickled. (While they run,
the processes of one run agree on who writes what by torch's object collectives, which pickle.)

No process holds more than its own shards and one file of them, and the number of processes may
change between save and load. All processes must see the same folder.

Checkpoints of the first format, one file a group (`model.safetensors` and so on), are read, too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from dreamontage.files import write_folder

_NAME = "checkpoint-{:09d}"
_SHARDS = "shards"
_FACTS = "facts.json"
# The storage builds a file in memory before it writes it. So a process may need this much twice.
FILE_BYTES = 1 << 30

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group and name. Sharded ones are DTensors, others are the same in all processes."""


def save(
    root: Path, *, step: int, tensors: Groups, facts: Mapping[str, Any], keep: int = 2
) -> None:
    """Store groups of tensors and JSON facts as the checkpoint of `step`; drop older ones.

    Every process calls it. The checkpoint appears when all of them are done, or not at all.
    """
    state = PartialState()
    folder = root / _NAME.format(step)
    unfinished = folder.with_name(f".{folder.name}.shards")
    if state.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    state.wait_for_everyone()
    flat = _flat_groups(tensors)
    writer = HuggingFaceStorageWriter(
        str(unfinished),
        fqn_to_index_mapping=_files(flat, state.num_processes),
        save_distributed=True,
    )
    with _one_process_is_meant():
        state_dict_saver.save(flat, storage_writer=writer)
    if state.is_main_process:

        def fill(path: Path) -> None:
            unfinished.rename(path / _SHARDS)
            (path / _FACTS).write_text(json.dumps({"step": step, **facts}, indent=1) + "\n")

        write_folder(folder, fill)
        for old in sorted(root.glob("checkpoint-*"))[:-keep]:
            shutil.rmtree(old)
    state.wait_for_everyone()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A checkpoint on disk."""

    folder: Path
    facts: dict[str, Any]

    def shapes(self, group: str) -> dict[str, torch.Size]:
        """The whole shape of each stored tensor of a group, by name."""
        with self._folder_of(group) as (folder, prefix):
            found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        return {
            name.removeprefix(prefix): stored.size
            for name, stored in found.items()
            if name.startswith(prefix) and isinstance(stored, TensorStorageMetadata)
        }

    def read_into(self, tensors: Groups) -> None:
        """Fill the tensors in place, each process its own shards. Every process calls it."""
        for group, values in tensors.items():
            with self._folder_of(group) as (folder, prefix), _one_process_is_meant():
                wanted: dict[str, Any] = {prefix + name: value for name, value in values.items()}
                state_dict_loader.load(wanted, storage_reader=HuggingFaceStorageReader(str(folder)))

    @contextmanager
    def _folder_of(self, group: str) -> Iterator[tuple[Path, str]]:
        """The folder whose files hold a group, and the prefix of the group's names in them."""
        if (self.folder / _SHARDS).is_dir():
            yield self.folder / _SHARDS, f"{group}/"
            return
        # The reader takes all files of a folder, and the old files use the same names.
        with tempfile.TemporaryDirectory() as alone:
            file = self.folder / f"{group}.safetensors"
            (Path(alone) / file.name).symlink_to(file.resolve())
            yield Path(alone), ""


def find_latest(root: Path) -> Stored | None:
    """The newest checkpoint under `root`; None when there is none."""
    folders = sorted(root.glob("checkpoint-*"))
    if not folders:
        return None
    return Stored(folder=folders[-1], facts=json.loads((folders[-1] / _FACTS).read_text()))


def flatten(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """An optimiser's state by parameter as named tensors: '<parameter>|<entry>'."""
    return {
        f"{name}|{key}": torch.as_tensor(value)
        for name, entries in state.items()
        for key, value in entries.items()
    }


def unflatten(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The inverse of `flatten`."""
    state: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, key = name.split("|")
        state.setdefault(parameter, {})[key] = value
    return state


def _flat_groups(tensors: Groups) -> dict[str, Any]:
    return {f"{group}/{name}": t for group, named in tensors.items() for name, t in named.items()}


def _files(flat: Mapping[str, Tensor], processes: int) -> dict[str, int]:
    """Into which file, counted from 1, each process writes its part of a tensor."""
    found: dict[str, int] = {}
    index, size = 1, 0
    for name, value in flat.items():
        part = value.numel() * value.element_size() // processes
        if size and size + part > FILE_BYTES:
            index, size = index + 1, 0
        found[name] = index
        size += part
    return found


@contextmanager
def _one_process_is_meant() -> Iterator[None]:
    """Torch warns that a run of one process is not distributed. It is not meant to be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
