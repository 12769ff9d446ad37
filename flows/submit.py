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
from dreamontage import media, variants
from dreamontage.assets import Known, examine, inspect
from dreamontage.faults import Fault, StoryboardError
from dreamontage.intake import (
    Ingested,
    Rendition,
    file_digest,
    of_shot,
    take_in,
    take_in_drafts,
)
from dreamontage.plan import model_faults
from dreamontage.storyboard import Storyboard
from dreamontage.upscale.model import folder_faults
from flows.farm import Farm


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A storyboard that is stored and may be rendered."""

    id: str
    title: str
    variant: str | None
    shots: int


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    board: Storyboard
    variant: str | None
    base: Path
    """The folder that its paths are relative to."""
    prefix: str
    """What tells its faults from those of the others."""


@dataclass(frozen=True, kw_only=True)
class _TakenIn(_Wanted):
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
    known: dict[Path, Known] = {}  # by the folder that paths are relative to
    wanted, faults = _wanted(paths, matrix, known)
    for one in wanted:
        found = model_faults(one.board, farm.base.geometry)
        found += folder_faults(one.board, farm.settings.weights, farm.settings.sr_weights)
        if any(shot.draft is not None for shot in one.board.shots):
            # Schedulers bring torch, and seconds, that no other storyboard has to wait for.
            from dreamontage.strength import folder_faults as strength_faults

            found += strength_faults(one.board, farm.settings.weights)
        found += inspect(one.board, one.base, known[one.base])[1]
        faults += (fault.under(one.prefix) for fault in found)
    _raise(faults)
    with farm.scratch() as folder:
        taken_in: list[_TakenIn] = []
        for index, one in enumerate(wanted):
            own = folder / str(index)
            own.mkdir()
            try:
                renditions = take_in(one.board, one.base, own)
                drafts = take_in_drafts(one.board, one.base, own)
                taken_in.append(_TakenIn(**vars(one), renditions=renditions, drafts=drafts))
            except StoryboardError as error:
                faults += (fault.under(one.prefix) for fault in error.faults)
        _raise(faults)
        boards = [_store(farm, each, due_at) for each in taken_in]
    # One transaction, and the last act: storyboards are there whole, and all of them, or not.
    farm.repository.add_storyboards(boards)
    return [
        Submitted(id=new.id, title=new.title, variant=new.variant, shots=len(new.shots))
        for new in boards
    ]


def _raise(faults: Sequence[Fault]) -> None:
    if faults:
        raise StoryboardError(faults)


def _wanted(
    paths: Sequence[Path], matrix: Path | None, known: dict[Path, Known]
) -> tuple[list[_Wanted], list[Fault]]:
    """The films that are asked for, and the faults of the files that cannot be read as any.

    What is found in the folders' files goes into `known`.
    """
    wanted: list[_Wanted] = []
    faults: list[Fault] = []
    for path in paths:
        prefix = f"{path}: " if len(paths) > 1 else ""
        try:
            board, _ = examine(path, known.setdefault(path.parent, {}))
            named: dict[str | None, Storyboard] = {None: board}
            if matrix is not None:
                chosen = variants.load_matrix(matrix)
                boards = variants.apply_all(board.model_dump(mode="json"), chosen, path.parent)
                named = {each.name: made for each, made in zip(chosen, boards, strict=True)}
        except StoryboardError as error:
            faults += (fault.under(prefix) for fault in error.faults)
            continue
        wanted += (
            _Wanted(
                board=made,
                variant=name,
                base=path.parent,
                prefix=prefix if name is None else f"{prefix}{name}: ",
            )
            for name, made in named.items()
        )
    return wanted, faults


def _store(farm: Farm, taken_in: _TakenIn, due_at: datetime | None) -> NewStoryboard:
    """Put the bytes into the store; what comes back are the rows that will say so."""
    board, drafts = taken_in.board, taken_in.drafts
    addresses: dict[Path, str] = {}
    made = [*taken_in.renditions, *drafts.values()]
    for each in (*made, *(rendition.shown for rendition in taken_in.renditions)):
        for path, kind in ((each.asset, "assets"), (each.path, "renditions")):
            if path not in addresses:
                addresses[path] = farm.store.put(kind, path, path.suffix)
    assets = {asset: _asset(asset, addresses[asset]) for asset in {each.asset for each in made}}
    return NewStoryboard(
        id=ids.new_storyboard_id(),
        title=board.title,
        document=board.model_dump(mode="json"),
        variant=taken_in.variant,
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
                    for rendition in of_shot(taken_in.renditions, index)
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


def _asset(path: Path, address: str) -> NewAsset:
    info = media.probe(path)
    return NewAsset(
        digest=file_digest(path), kind=AssetKind(info.kind), address=address, info=info.to_json()
    )
