"""Decoding a take, and the gate's judgement of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.states import Verdict
from db.takes import ScoreRow
from dreamontage import scorer
from dreamontage.intake import condition_label
from flows.farm import Farm
from flows.steps.segments import latents_of
from flows.steps.shots import context_of, plan_of


def decode_take(farm: Farm, take_id: str) -> str:
    """Fuse and decode a take's segments into its mezzanine; returns that one's address."""
    from dreamontage.take import write_take
    from flows.model import load

    take = farm.repository.take(take_id)
    if take.mezzanine_address is not None:
        return take.mezzanine_address
    context = context_of(farm, take.shot_id)
    slots = farm.repository.take_segments(take_id)
    segments = plan_of(farm, context, take.seed).segments
    pipe = load(farm.settings.weights, farm.settings.device)
    with farm.scratch() as folder:
        film = write_take(
            pipe.vae,
            (
                (segment, latents_of(farm, slot.key))
                for segment, slot in zip(segments, slots, strict=True)
            ),
            folder / "take.mkv",
            frames=context.shot.frames,
            width=context.board.size.width,
            height=context.board.size.height,
            fps=context.fps,
        )
        address = farm.store.put("takes", film, ".mkv")
    farm.repository.finish_take(take_id, address)
    return address


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the gate found in a take."""

    verdict: Verdict
    reasons: Sequence[str]
    scores: Sequence[ScoreRow]


def gate_take(farm: Farm, take_id: str, *, takes_left: int) -> Judged:
    """Measure a decoded take, judge it by the farm's thresholds, and store both."""
    take = farm.repository.take(take_id)
    assert take.mezzanine_address is not None, "a take is decoded before it is judged"
    context = context_of(farm, take.shot_id)
    with farm.scratch() as folder:
        film = scorer.Film(
            path=farm.store.fetch(take.mezzanine_address, folder / "take.mkv"),
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
            joins=plan_of(farm, context, take.seed).joins,
        )
        scores = scorer.measure(film)
    thresholds = [
        scorer.Threshold(
            name=row.name,
            retake_below=row.retake_below,
            retake_above=row.retake_above,
            review_below=row.review_below,
            review_above=row.review_above,
        )
        for row in farm.repository.thresholds()
    ]
    judgement = scorer.judge(scores, thresholds, takes_left=max(0, takes_left), fps=context.fps)
    rows = [
        ScoreRow(name=score.name, value=score.value, frame=score.frame, detail=score.detail)
        for score in scores
    ]
    farm.repository.add_scores(take_id, rows)
    verdict = Verdict(judgement.verdict.value)
    farm.repository.set_verdict(take_id, verdict, judgement.reasons)
    return Judged(verdict=verdict, reasons=judgement.reasons, scores=rows)
