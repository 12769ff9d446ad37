"""Taking a storyboard in: from the producer's file to rows and bytes that any worker can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from db import ids
from db.states import AssetKind, ConditionKind
from db.storyboards import NewAsset, NewCondition, NewDraft, NewShot, NewStoryboard
from dreamontage.digests import file_digest
from dreamontage.media.probe import MediaInfo
from dreamontage.rendering.assets import Known
from dreamontage.rendering.ingest import (
    Ingested,
    Rendition,
    ingest_conditions,
    ingest_drafts,
    of_shot,
)
from dreamontage.rendering.preflight import ModelFolders, board_errors, check
from dreamontage.storyboard import Storyboard, variants
from dreamontage.storyboard.errors import FieldError, StoryboardError
from flows.actions.start import find_deployment, start_storyboard
from flows.studio.farm import Farm


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A storyboard that is stored and may be rendered."""

    id: str
    title: str
    variant: str | None
    shots: int


@dataclass(frozen=True)
class _Request:
    """A film that is asked for.

    ``base``: the folder that its paths are relative to. ``prefix`` comes before its errors.
    ``known``: facts of the folder's files, so that each is probed once.
    """

    board: Storyboard
    variant: str | None
    base: Path
    prefix: str
    known: Known


@dataclass(frozen=True, kw_only=True)
class _IngestedStoryboard(_Request):
    renditions: Sequence[Rendition]
    drafts: Mapping[int, Ingested]  # by shot


def submit(
    farm: Farm,
    *paths: Path,
    matrix: Path | None = None,
    due_at: datetime | None = None,
) -> list[Submitted]:
    """Check, take in and store storyboards; with a ``matrix``, each one's variants instead.

    Nothing is stored before everything, every file, variant and asset, has been found good: what
    can be seen without decoding first, of all of them.

    Args:
        due_at: when the nightly flow may render them; None for what is started now.

    Raises:
        StoryboardError: with all faults of the files, their variants and their assets.
    """
    requests, errors = _requests(farm, paths, matrix)
    _raise_if_any(errors)
    with farm.scratch() as folder:
        ingested: list[_IngestedStoryboard] = []
        for index, one in enumerate(requests):
            own = folder / str(index)
            own.mkdir()
            try:
                renditions = ingest_conditions(one.board, one.base, own, known=one.known)
                drafts = ingest_drafts(one.board, one.base, own, known=one.known)
                ingested.append(
                    _IngestedStoryboard(**vars(one), renditions=renditions, drafts=drafts)
                )
            except StoryboardError as error:
                errors += (each.prefixed(one.prefix) for each in error.errors)
        _raise_if_any(errors)
        boards = [_store(farm, each, due_at) for each in ingested]
    # One transaction, and the last act: storyboards are there whole, and all of them, or not.
    farm.repository.add_storyboards(boards)
    return [
        Submitted(id=new.id, title=new.title, variant=new.variant, shots=len(new.shots))
        for new in boards
    ]


def submit_and_start(farm: Farm, *paths: Path, matrix: Path | None = None) -> list[Submitted]:
    """As `submit`, and start a run for each storyboard.

    Nothing is stored that could not be started, nor one file without the others.

    Raises:
        StoryboardError: as `submit`.
        ConnectionError, LookupError: as `find_deployment`, before anything is stored.
    """
    find_deployment(farm.settings)
    submitted = submit(farm, *paths, matrix=matrix)
    for each in submitted:
        run = start_storyboard(farm.settings, each.id)
        farm.repository.set_flow_run(each.id, run)
    return submitted


def _raise_if_any(errors: Sequence[FieldError]) -> None:
    if errors:
        raise StoryboardError(errors)


def _requests(
    farm: Farm, paths: Sequence[Path], matrix: Path | None
) -> tuple[list[_Request], list[FieldError]]:
    """The films that are asked for, and all errors that are found without decoding."""
    models = ModelFolders(base=farm.settings.weights, sr=farm.settings.sr_weights)
    by_folder: dict[Path, Known] = {}
    requests: list[_Request] = []
    errors: list[FieldError] = []
    for path in paths:
        prefix = f"{path}: " if len(paths) > 1 else ""
        known = by_folder.setdefault(path.parent, {})
        try:
            if matrix is None:
                board, _ = check(path, models, known)
                requests.append(_Request(board, None, path.parent, prefix, known))
                continue
            board, _ = check(path, None, known)
            chosen = variants.load_matrix(matrix)
            boards = variants.apply_all(board.model_dump(mode="json"), chosen, path.parent)
        except StoryboardError as error:
            errors += (each.prefixed(prefix) for each in error.errors)
            continue
        for variant, made in zip(chosen, boards, strict=True):
            own = f"{prefix}{variant.name}: "
            requests.append(_Request(made, variant.name, path.parent, own, known))
            found = board_errors(made, path.parent, models, known)
            errors += (each.prefixed(own) for each in found)
    return requests, errors


def _store(farm: Farm, ingested: _IngestedStoryboard, due_at: datetime | None) -> NewStoryboard:
    """Put the bytes into the store; what comes back are the rows that will say so."""
    board, drafts = ingested.board, ingested.drafts
    addresses: dict[Path, str] = {}
    made = [*ingested.renditions, *drafts.values()]
    for each in (*made, *(rendition.delivered for rendition in ingested.renditions)):
        for path, kind in ((each.asset, "assets"), (each.path, "renditions")):
            if path not in addresses:
                addresses[path] = farm.store.put(kind, path, path.suffix)
    facts = {ingested.base / name: info for name, info in ingested.known.items()}
    assets = {
        asset: _asset(asset, addresses[asset], facts[asset])
        for asset in {each.asset for each in made}
    }
    return NewStoryboard(
        id=ids.new_storyboard_id(),
        title=board.title,
        document=board.model_dump(mode="json"),
        variant=ingested.variant,
        due_at=due_at,
        shots=[
            NewShot(
                name=board.shot_name(index),
                frames=shot.frames(board.fps),
                seed=board.shot_seed(index),
                draft=NewDraft(
                    asset=assets[drafts[index].asset],
                    rendition_address=addresses[drafts[index].path],
                    rendition_spec=drafts[index].spec,
                )
                if index in drafts
                else None,
                conditions=[
                    NewCondition(
                        index=rendition.placed.index,
                        kind=ConditionKind(rendition.placed.kind),
                        frame=rendition.placed.frame,
                        frames=rendition.placed.frames,
                        asset=assets[rendition.asset],
                        rendition_address=addresses[rendition.path],
                        rendition_spec=rendition.spec,
                        **_target(rendition, addresses),
                    )
                    for rendition in of_shot(ingested.renditions, index)
                ],
            )
            for index, shot in enumerate(board.shots)
        ],
    )


def _target(rendition: Rendition, addresses: Mapping[Path, str]) -> dict[str, Any]:
    """The rendition at the size that is delivered, where that is another."""
    if rendition.target is None:
        return {}
    return {
        "target_address": addresses[rendition.target.path],
        "target_spec": rendition.target.spec,
    }


def _asset(path: Path, address: str, info: MediaInfo | str) -> NewAsset:
    assert not isinstance(info, str), "an asset with an error is not ingested"
    return NewAsset(
        digest=file_digest(path), kind=AssetKind(info.kind), address=address, info=info.to_json()
    )
