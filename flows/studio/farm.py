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
from dreamontage.digests import digest
from dreamontage.models.folder import FolderFacts, folder_facts, folder_revision
from dreamontage.pipeline import acceleration
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.planning.geometry import Geometry
from dreamontage.rendering.take_plan import Stage
from flows.studio.services import read_stack_state
from flows.studio.settings import Settings, read_settings
from storage import NotFound, Store, Torn


@dataclass(frozen=True, kw_only=True)
class FarmModel:
    """A model's folder, read without loading it, and the speed options that it is loaded with."""

    folder: Path
    options: SpeedOptions

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry.from_folder(self.folder)

    @cached_property
    def revision(self) -> str:
        return folder_revision(self.folder)

    @cached_property
    def render_revision(self) -> str:
        """The revision in segment keys: the model, and the speed options that change latents."""
        return acceleration.revision(self.revision, self.options)

    @cached_property
    def text_revision(self) -> str:
        """What determines how prompts are read: encoder, tokenizer, and where they are cut."""
        parts = [folder_revision(self.folder / name) for name in ("text_encoder", "tokenizer")]
        return digest([*parts, self.facts.max_sequence_length])

    @cached_property
    def facts(self) -> FolderFacts:
        return folder_facts(self.folder)


@dataclass(frozen=True)
class Farm:
    """Open it with :func:`open_farm`; hand it to the functions of ``steps`` and ``submit``."""

    settings: Settings
    store: Store
    repository: Repository

    @cached_property
    def base(self) -> FarmModel:
        """The model that films are rendered with."""
        return FarmModel(folder=self.settings.weights, options=self.settings.speed_options)

    @cached_property
    def sr(self) -> FarmModel | None:
        """The super-resolution model, if one is set."""
        if self.settings.sr_weights is None:
            return None
        options = self.settings.speed_options.for_upscaling
        return FarmModel(folder=self.settings.sr_weights, options=options)

    def model(self, stage: Stage) -> FarmModel:
        """The one that makes a stage's segments.

        Raises:
            ValueError: if none is set.
        """
        found = self.sr if stage is Stage.UPSCALE else self.base
        if found is None:
            raise ValueError("no super-resolution model is set: DREAMONTAGE_SR_WEIGHTS names none")
        return found

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
    known = read_stack_state(settings)
    if known.get("database_url") != settings.database():
        return  # the studio under `home` is not the one that is meant
    if known.get("store", settings.store_place) != settings.store_place:
        raise ValueError(
            f"this studio was started with its store in {known['store']}, and the settings here "
            f"name {settings.store_place}: set S3_ENDPOINT (and S3_BUCKET) as they were for "
            "`dreamontage up`, or call `dreamontage up` with these"
        )
