"""The farm as the steps see it: its settings, its bytes, its database."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from db.repository import Repository
from dreamontage import keys, speed
from dreamontage.models.folder import FolderFacts, folder_facts, folder_revision
from dreamontage.plan import Geometry
from flows.services import memory
from flows.settings import Settings, read_settings
from storage import NotFound, Store, Torn


@dataclass(frozen=True)
class Farm:
    """Open it with :func:`open_farm`; hand it to the functions of ``steps`` and ``submit``."""

    settings: Settings
    store: Store
    repository: Repository

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry.from_folder(self.settings.weights)

    @cached_property
    def revision(self) -> str:
        return folder_revision(self.settings.weights)

    @cached_property
    def made_by(self) -> str:
        """What segments are kept under: the model, and those speed options that change latents."""
        return speed.revision(self.revision, self.settings.speed_options)

    @cached_property
    def text_revision(self) -> str:
        """What determines how prompts are read: encoder, tokenizer, and where they are cut."""
        parts = [
            folder_revision(self.settings.weights / name) for name in ("text_encoder", "tokenizer")
        ]
        return keys.digest([*parts, self.facts.max_sequence_length])

    @cached_property
    def facts(self) -> FolderFacts:
        return folder_facts(self.settings.weights)

    @property
    def holder(self) -> str:
        """Who claims segments in this process, as operators read it."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def read(self, address: str) -> bytes | None:
        """The object's bytes; None if it is lost. A torn one is deleted, so that it can be made
        again."""
        try:
            return self.store.get(address)
        except NotFound:
            return None
        except Torn:
            self.store.delete(address)
            return None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for the files of one step, gone afterwards."""
        with TemporaryDirectory(prefix="dreamontage-") as folder:
            yield Path(folder)


@contextmanager
def open_farm(settings: Settings | None = None) -> Iterator[Farm]:
    """The farm that the settings describe, by default those of the environment.

    Raises ValueError when they name another store than the studio under `home` was started with.
    """
    settings = settings or read_settings()
    _same_store(settings)
    with Repository.open(settings.database()) as repository:
        yield Farm(settings, settings.store(), repository)


def _same_store(settings: Settings) -> None:
    """A database's rows name bytes of one store: what is sent to another, no worker finds."""
    known = memory(settings)
    if known.get("database_url") != settings.database():
        return  # the studio under `home` is not the one that is meant
    if known.get("store", settings.store_place) != settings.store_place:
        raise ValueError(
            f"this studio was started with its store in {known['store']}, and the settings here "
            f"name {settings.store_place}: set S3_ENDPOINT (and S3_BUCKET) as they were for "
            "`dreamontage up`, or call `dreamontage up` with these"
        )
