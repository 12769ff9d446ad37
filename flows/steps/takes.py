"""The steps of a take on the farm: the engine's, with rows and bytes around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import db.takes
from db.models import Take
from db.states import Verdict
from db.takes import ScoreRow
from dreamontage import scorer
from dreamontage.rendering.take_plan import PlannedSegment, Stage, StaleTake
from flows.steps.shots import FarmTake
from flows.studio.farm import Farm
from storage import NotFound, Torn

if TYPE_CHECKING:
    from dreamontage.rendering.engine import Engine


class LostFrames(RuntimeError):  # noqa: N818 - it says what happened
    """A take's frames are not in the store any more. The take is open to be decoded again."""


def engine_of(farm: Farm, take: FarmTake) -> Engine:
    """The engine with the farm's models, its ledger, and the take's renditions."""
    # torch comes with the engine, and planning and assembly need none.
    from dreamontage.rendering.engine import Engine
    from flows.steps.postgres_ledger import PostgresLedger
    from flows.studio.model import FarmModels

    return Engine(
        ledger=PostgresLedger(farm),
        models=FarmModels(farm),
        assets=lambda: _assets(farm, take),
        checkpoint_every=farm.settings.checkpoint_every,
    )


@contextmanager
def _assets(farm: Farm, take: FarmTake) -> Iterator[FetchedAssets]:
    with farm.scratch() as folder:
        yield FetchedAssets(farm, take, folder)


@dataclass(frozen=True)
class FetchedAssets:
    """A take's renditions, fetched from the store when they are asked for."""

    farm: Farm
    take: FarmTake
    folder: Path

    def rendition(self, index: int) -> Path:
        return self._fetched(self.take.renditions[index], f"rendition{index}")

    def target(self, index: int) -> Path:
        return self._fetched(self.take.targets[index], f"target{index}")

    def animatic(self) -> Path | None:
        address = self.take.draft_address
        return None if address is None else self._fetched(address, "draft")

    def _fetched(self, address: str, name: str) -> Path:
        path = self.folder / name
        return path if path.exists() else self.farm.store.fetch(address, path)


def encode_prompts(farm: Farm, take: FarmTake) -> int:
    """Make sure that all prompts of a take are encoded; how many were new."""
    return engine_of(farm, take).encode_prompts(take.plan)


def render_segment(
    farm: Farm,
    take: FarmTake,
    segment: PlannedSegment,
    *,
    progress: Callable[[int, int], None] = lambda step, steps: None,
    waiting: Callable[[str], None] = lambda holder: None,
) -> int:
    """As `Engine.render_segment`, which says what it raises."""
    engine = engine_of(farm, take)
    return engine.render_segment(take.plan, segment, progress=progress, waiting=waiting)


def make_drafts(farm: Farm, take: FarmTake, stage: Stage) -> int:
    """As `Engine.make_drafts`."""
    return engine_of(farm, take).make_drafts(take.plan, stage)


def decode_take(farm: Farm, take: FarmTake) -> str:
    """Decode a take into its mezzanine; that one's address.

    Raises:
        StaleTake: when the take was planned for another model, or is planned otherwise by now.
    """
    row = farm.repository.take(take.id)
    if row.mezzanine_address is not None:
        return row.mezzanine_address
    with farm.scratch() as folder:
        film = engine_of(farm, take).decode(take.plan, folder / "take.mkv")
        address = farm.store.put("takes", film, ".mkv")
    with _stale_is_planned_again():
        farm.repository.finish_take(take.id, address, segment_keys=take.plan.keys)
    return address


def fetch_mezzanine(farm: Farm, take: Take, path: Path) -> Path:
    """A decoded take's frames, as a file.

    Raises:
        LostFrames: when they are not in the store any more.
    """
    if take.mezzanine_address is None:
        raise LostFrames(f"take {take.id} has no frames, or not any more: decode it")
    try:
        return farm.store.fetch(take.mezzanine_address, path)
    except (NotFound, Torn) as error:
        farm.store.delete(take.mezzanine_address)
        farm.repository.clear_mezzanine(take.id, take.mezzanine_address)
        raise LostFrames(f"the frames of take {take.id} are lost: decode it again") from error


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the gate found in a take."""

    verdict: Verdict
    reasons: Sequence[str]
    scores: Sequence[ScoreRow]


def gate_take(farm: Farm, take: FarmTake, *, takes_left: int) -> Judged:
    """Measure a decoded take, judge it by the farm's thresholds, and store both.

    Raises:
        LostFrames: when it has no frames.
        StaleTake: when it has others by the time it is judged.
    """
    from dreamontage.rendering.engine import gate_film

    row = farm.repository.take(take.id)
    with _assets(farm, take) as assets:
        mezzanine = fetch_mezzanine(farm, row, assets.folder / "take.mkv")
        scores = scorer.measure(gate_film(take.plan, mezzanine, assets))
    judgement = scorer.judge(
        scores, _thresholds(farm), takes_left=max(0, takes_left), fps=take.plan.fps
    )
    rows = [
        ScoreRow(name=score.name, value=score.value, frame=score.frame, detail=score.detail)
        for score in scores
    ]
    verdict = Verdict(judgement.verdict.value)
    assert row.mezzanine_address is not None
    with _stale_is_planned_again():
        farm.repository.judge_take(
            take.id, verdict, judgement.reasons, rows, mezzanine_address=row.mezzanine_address
        )
    return Judged(verdict=verdict, reasons=judgement.reasons, scores=rows)


@contextmanager
def _stale_is_planned_again() -> Iterator[None]:
    """The database says that a take is stale by its own exception: it knows nothing of ours."""
    try:
        yield
    except db.takes.StaleTake as error:
        raise StaleTake(str(error)) from error


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
