"""Assembling a storyboard's takes into the film that is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db.models import Take
from db.states import DeliverableKind, Verdict
from dreamontage import keys, speed
from dreamontage.film import (
    ShotFilm,
    ToldCondition,
    deliver,
    shot_notes,
    slug,
    told_draft,
    told_shot,
)
from flows.farm import Farm
from flows.steps.shots import board_of, context_of, sampler_of
from flows.steps.takes import fetch_mezzanine
from storage.address import parse


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A film whose deliverables are in the store."""

    title: str
    sheet_png: bytes
    for_review: bool


def assemble(farm: Farm, storyboard_id: str) -> Assembled:
    """Join the shots' takes into the film, and store it with its sheet and its record.

    Raises:
        LostWork: when a take's frames are not in the store any more.
    """
    repository, store = farm.repository, farm.store
    storyboard = repository.storyboard(storyboard_id)
    board = board_of(farm, storyboard_id)
    takes = [_chosen(repository.takes(shot.id)) for shot in repository.shots(storyboard_id)]
    assert len(takes) == len(board.shots), "a storyboard is stored with all of its shots"
    with farm.scratch() as folder:
        shots = []
        for index, take in enumerate(takes):
            context = context_of(farm, take.shot_id)
            shots.append(
                ShotFilm(
                    mezzanine=fetch_mezzanine(farm, take, folder / f"{index}.mkv"),
                    frames=context.shot.frames,
                    conditions=context.placed,
                    notes=shot_notes(context.wanted),
                )
            )
        name = "-".join(filter(None, (slug(board.title), storyboard.variant, storyboard_id)))
        made = deliver(
            board,
            shots,
            folder,
            name=name,
            smoke=farm.facts.smoke,
            record={
                "id": storyboard_id,
                "variant": storyboard.variant,
                "model": {
                    "folder": farm.settings.weights.name,
                    "revision": farm.made_by,
                    "machine": keys.machine_kind(farm.settings.device),
                    "speed": speed.told(farm.settings.speed_options),
                },
                "sampler": sampler_of(farm, board),
                "shots": [_told(farm, take) for take in takes],
            },
        )
        for kind, path in (
            (DeliverableKind.FILM, made.film),
            (DeliverableKind.SHEET, made.sheet),
            (DeliverableKind.RECORD, made.record),
        ):
            repository.add_deliverable(
                storyboard_id,
                kind,
                address=store.put("deliverables", path, path.suffix),
                size=path.stat().st_size,
                info={"name": path.name},
            )
        return Assembled(
            title=board.title,
            sheet_png=made.sheet.read_bytes(),
            for_review=any(take.verdict is not Verdict.PASS for take in takes),
        )


def _chosen(takes: Sequence[Take]) -> Take:
    """The take that goes into the film: the latest that passed, else the latest."""
    passed = [take for take in takes if take.verdict is Verdict.PASS]
    return (passed or list(takes))[-1]


def _told(farm: Farm, take: Take) -> dict[str, Any]:
    context = context_of(farm, take.shot_id)
    shot = context.shot
    return told_shot(
        name=shot.name,
        frames=shot.frames,
        loop=context.wanted.loop,
        draft=told_draft(
            context.wanted,
            asset=shot.draft_asset,
            rendition=shot.draft_address and parse(shot.draft_address).digest,
            spec=shot.draft_spec,
        ),
        attempt=take.attempt,
        seed=take.seed,
        segments=[(slot.key, slot) for slot in farm.repository.take_segments(take.id)],
        conditions=[
            ToldCondition(
                placed=placed,
                asset=row.asset,
                rendition=parse(row.rendition_address).digest,
                spec=row.rendition_spec,
            )
            for placed, row in zip(
                context.placed, farm.repository.conditions(take.shot_id), strict=True
            )
        ],
        verdict=take.verdict and take.verdict.value,
        reasons=take.reasons,
        scores=farm.repository.scores(take.id),
    )
