"""Decoding a take, and the gate's judgement of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from db.models import Take
from db.states import Verdict
from db.takes import ScoreRow, StaleTake
from dreamontage import scorer
from dreamontage.intake import condition_label
from flows.farm import Farm
from flows.steps.segments import LostWork, latents_of
from flows.steps.shots import context_of, plan_of, slots_of
from storage import NotFound, Torn


def decode_take(farm: Farm, take_id: str) -> str:
    """Fuse and decode a take's segments into its mezzanine; returns that one's address.

    Raises:
        LostWork: when latents are not in the store any more.
        StaleTake: when the take is planned for another model, or is by the time it is decoded.
    """
    from dreamontage.take import write_take
    from flows.model import pipeline_of

    take = farm.repository.take(take_id)
    if take.mezzanine_address is not None:
        return take.mezzanine_address
    context = context_of(farm, take.shot_id)
    keys = [slot.key for slot in farm.repository.take_segments(take_id)]
    if keys != [slot.key for slot in slots_of(farm, context, take.seed)]:
        raise StaleTake(f"take {take_id} was planned for another model: plan it again")
    segments = plan_of(farm, context, take.seed).segments
    pipe = pipeline_of(farm)
    with farm.scratch() as folder:
        film = write_take(
            pipe.vae,
            ((segment, latents_of(farm, key)) for segment, key in zip(segments, keys, strict=True)),
            folder / "take.mkv",
            frames=context.shot.frames,
            width=context.board.size.width,
            height=context.board.size.height,
            fps=context.fps,
        )
        address = farm.store.put("takes", film, ".mkv")
    farm.repository.finish_take(take_id, address, made_of=keys)
    return address


def fetch_mezzanine(farm: Farm, take: Take, path: Path) -> Path:
    """A decoded take's frames, as a file.

    Raises:
        LostWork: when they are not in the store any more; the take is then open to be decoded.
    """
    if take.mezzanine_address is None:
        raise LostWork(f"take {take.id} has no frames, or not any more: decode it")
    try:
        return farm.store.fetch(take.mezzanine_address, path)
    except (NotFound, Torn) as error:
        farm.store.delete(take.mezzanine_address)
        farm.repository.forget_mezzanine(take.id, take.mezzanine_address)
        raise LostWork(f"the frames of take {take.id} are lost: decode it again") from error


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the gate found in a take."""

    verdict: Verdict
    reasons: Sequence[str]
    scores: Sequence[ScoreRow]


def gate_take(farm: Farm, take_id: str, *, takes_left: int) -> Judged:
    """Measure a decoded take, judge it by the farm's thresholds, and store both.

    Raises:
        LostWork: when it has no frames.
        StaleTake: when it has others by the time it is judged.
    """
    take = farm.repository.take(take_id)
    context = context_of(farm, take.shot_id)
    plan = plan_of(farm, context, take.seed)
    with farm.scratch() as folder:
        film = scorer.Film(
            path=fetch_mezzanine(farm, take, folder / "take.mkv"),
            fps=context.fps,
            marks=tuple(
                scorer.Mark(
                    frame=placed.frame,
                    frames=placed.frames,
                    picture=farm.store.fetch(address, folder / f"condition{placed.index}"),
                    label=condition_label(placed, context.fps),
                )
                for placed, address in zip(context.placed, context.renditions, strict=True)
            ),
            joins=plan.joins,
            loop=plan.loop,
        )
        scores = scorer.measure(film)
    judgement = scorer.judge(
        scores, _thresholds(farm), takes_left=max(0, takes_left), fps=context.fps
    )
    rows = [
        ScoreRow(name=score.name, value=score.value, frame=score.frame, detail=score.detail)
        for score in scores
    ]
    verdict = Verdict(judgement.verdict.value)
    assert take.mezzanine_address is not None
    farm.repository.judge_take(take_id, verdict, judgement.reasons, rows, of=take.mezzanine_address)
    return Judged(verdict=verdict, reasons=judgement.reasons, scores=rows)


def _thresholds(farm: Farm) -> list[scorer.Threshold]:
    """The farm's own limits, and the gate's for every score that the farm has set none for."""
    limits = {each.name: each for each in scorer.DEFAULT_THRESHOLDS}
    for row in farm.repository.thresholds():
        limits[row.name] = scorer.Threshold(
            name=row.name,
            retake_below=row.retake_below,
            retake_above=row.retake_above,
            review_below=row.review_below,
            review_above=row.review_above,
        )
    return list(limits.values())
