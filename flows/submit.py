"""Taking a storyboard in: from the producer's file to rows and bytes that any worker can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from db import ids
from db.states import AssetKind, ConditionKind
from db.storyboards import NewAsset, NewCondition, NewDraft, NewShot, NewStoryboard
from dreamontage import media, variants
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
from dreamontage.storyboard import Storyboard, load
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
    variant: str | None
    board: Storyboard


@dataclass(frozen=True, kw_only=True)
class _TakenIn(_Wanted):
    renditions: Sequence[Rendition]
    drafts: Mapping[int, Ingested]  # by shot


def submit(
    farm: Farm,
    path: Path,
    *,
    matrix: Path | None = None,
    due_at: datetime | None = None,
) -> list[Submitted]:
    """Check, take in and store a storyboard; with a ``matrix``, each of its variants instead.

    Nothing is stored before everything, every variant and every asset, has been found good.

    Args:
        due_at: when the nightly flow may render it; None for one that is started now.

    Raises:
        StoryboardError: with all faults of the file, its variants and their assets.
    """
    wanted = _wanted(path, matrix)
    faults: list[Fault] = []
    with farm.scratch() as folder:
        taken_in: list[_TakenIn] = []
        for index, one in enumerate(wanted):
            prefix = "" if one.variant is None else f"{one.variant}: "
            faults += (fault.under(prefix) for fault in model_faults(one.board, farm.geometry))
            own = folder / str(index)
            own.mkdir()
            try:
                taken_in.append(
                    _TakenIn(
                        variant=one.variant,
                        board=one.board,
                        renditions=take_in(one.board, path.parent, own),
                        drafts=take_in_drafts(one.board, path.parent, own),
                    )
                )
            except StoryboardError as error:
                faults += (fault.under(prefix) for fault in error.faults)
        if faults:
            raise StoryboardError(faults)
        boards = [_store(farm, each, due_at) for each in taken_in]
    # One transaction, and the last act: a storyboard is there whole, with its variants, or not.
    farm.repository.add_storyboards(boards)
    return [
        Submitted(id=new.id, title=new.title, variant=new.variant, shots=len(new.shots))
        for new in boards
    ]


def _wanted(path: Path, matrix: Path | None) -> list[_Wanted]:
    if matrix is None:
        return [_Wanted(variant=None, board=load(path))]
    chosen = variants.load_matrix(matrix)
    boards = variants.apply_all(load(path).model_dump(mode="json"), chosen, path.parent)
    return [
        _Wanted(variant=variant.name, board=board)
        for variant, board in zip(chosen, boards, strict=True)
    ]


def _store(farm: Farm, taken_in: _TakenIn, due_at: datetime | None) -> NewStoryboard:
    """Put the bytes into the store; what comes back are the rows that will say so."""
    board, drafts = taken_in.board, taken_in.drafts
    addresses: dict[Path, str] = {}
    made = [*taken_in.renditions, *drafts.values()]
    for each in made:
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
                    )
                    for rendition in of_shot(taken_in.renditions, index)
                ],
            )
            for index, shot in enumerate(board.shots)
        ],
    )


def _asset(path: Path, address: str) -> NewAsset:
    info = media.probe(path)
    return NewAsset(
        digest=file_digest(path), kind=AssetKind(info.kind), address=address, info=info.to_json()
    )
