"""A storyboard rendered in this process, with no server: what `dreamontage render` does.

Finished work stays beside the film, in a folder ledger. So a render that was stopped continues in
the middle of a segment, and a storyboard whose end was edited keeps what both films share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dreamontage import scorer
from dreamontage.delivery.film import ShotFilm, shot_notes
from dreamontage.digests import file_digest
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.planning.segments import model_errors
from dreamontage.rendering import preflight
from dreamontage.rendering.assets import Known
from dreamontage.rendering.delivery import Deliverables, deliver
from dreamontage.rendering.engine import Engine, gate_film
from dreamontage.rendering.folder_ledger import FolderLedger
from dreamontage.rendering.ingest import (
    Ingested,
    Rendition,
    ingest_conditions,
    ingest_drafts,
    of_shot,
)
from dreamontage.rendering.ledger import Ledger
from dreamontage.rendering.local_models import LoadedModels
from dreamontage.rendering.record import (
    FilmRecord,
    ShotRecord,
    condition_record,
    draft_record,
    film_record,
    score_records,
    upscale_record,
    window_records,
)
from dreamontage.rendering.take_plan import PlannedSegment, Renditions, Stage, TakePlan, plan_take
from dreamontage.rendering.takes import render_takes
from dreamontage.storyboard import Storyboard
from dreamontage.storyboard.errors import StoryboardError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how far it is, and of how much."""

MAX_TAKES = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """A storyboard on its way: its models, its ledger, a scratch folder, and a callback.

    ``max_takes``: how many takes a shot may cost, unless its weights are too little trained.
    """

    board: Storyboard
    models: LoadedModels
    ledger: Ledger
    work: Path
    max_takes: int
    progress: Progress


def render(
    board: Storyboard,
    base: Path,
    folder: Path,
    pipe: DreaMontagePipeline,
    *,
    sr: DreaMontagePipeline | None = None,
    name: str,
    max_takes: int = MAX_TAKES,
    ledger: Ledger | None = None,
    known: Known | None = None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Deliverables, list[scorer.Judgement]]:
    """Render a film into ``folder``. A take that the gate sends back is taken again.

    Args:
        base: the folder that the storyboard's paths are relative to.
        sr: the super-resolution model, for a storyboard with ``upscale``.
        max_takes: how many takes a shot may cost; weights too little trained to show get one.
        ledger: where finished work is found, by default ``folder/segments``.
        known: facts of files, as `assets.inspect` has them; those are not probed again.

    Raises:
        StoryboardError: with every asset that cannot be used, and what these models cannot render,
            before anything is rendered.
    """
    models = LoadedModels(board=board, base=pipe, sr=sr if board.upscale is not None else None)
    errors = [*model_errors(board, pipe.geometry), *models.upscale_errors(sr)]
    errors += preflight.draft_errors(board, pipe.scheduler, models.steps(Stage.BASE))
    errors += preflight.coarse_errors(
        board, pipe.geometry, refinable=models.stage(Stage.BASE).refinable
    )
    if errors:
        raise StoryboardError(errors)
    with TemporaryDirectory(prefix="dreamontage-") as scratch:
        work, known = Path(scratch), {} if known is None else known

        def taking_in(asset: str) -> None:
            progress(f"taking in {asset}", 0, 1)

        renditions = ingest_conditions(board, base, work, known=known, progress=taking_in)
        drafts = ingest_drafts(board, base, work, known=known, progress=taking_in)
        job = Job(
            board=board,
            models=models,
            ledger=ledger or FolderLedger(folder / "segments"),
            work=work,
            max_takes=1 if models.smoke else max_takes,
            progress=progress,
        )
        shots = [
            _Shot(job, index, of_shot(renditions, index), drafts.get(index))
            for index in range(len(board.shots))
        ]
        for shot in shots:
            shot.render()
        progress("writing the film", 0, 1)

        def record(film: str) -> FilmRecord:
            return film_record(
                board,
                film=film,
                smoke=models.smoke,
                model=models.record(Stage.BASE),
                sampler=models.settings(Stage.BASE).sampler,
                upscale=None
                if models.sr is None
                else upscale_record(
                    board,
                    models.upscaler(),
                    model=models.record(Stage.UPSCALE),
                    sampler=models.settings(Stage.UPSCALE).sampler,
                ),
                shots=[shot.record() for shot in shots],
            )

        made = deliver(
            board,
            [shot.film() for shot in shots],
            folder,
            name=name,
            smoke=models.smoke,
            record=record,
        )
    return made, [shot.judgement for shot in shots]


_LABELS = {Stage.COARSE: "coarse segment", Stage.BASE: "segment", Stage.UPSCALE: "upscaling"}


class _Shot:
    """One shot: the steps of its takes, and what came of the last one."""

    plan_made: TakePlan
    judgement: scorer.Judgement
    scores: list[scorer.Score]

    def __init__(
        self, job: Job, index: int, renditions: list[Rendition], animatic: Ingested | None
    ) -> None:
        self.job, self.index = job, index
        self.renditions, self.draft = renditions, animatic
        self.mezzanine = job.work / f"shot{index}.mkv"
        self.engine = Engine(ledger=job.ledger, models=job.models, assets=self._open_assets)
        self.rendition_digests = Renditions(
            placed=tuple(each.placed for each in renditions),
            digests=tuple(each.digest for each in renditions),
            targets=tuple(each.delivered.digest for each in renditions),
            animatic=None if animatic is None else animatic.digest,
        )

    def render(self) -> None:
        name = self.job.board.shot_name(self.index)
        render_takes(
            self,
            first_attempt=0,
            max_takes=self.job.max_takes,
            retake=lambda attempt: self.job.progress(f"{name}, take {attempt + 1}", 0, 1),
            stale=lambda error: self.job.progress(f"{name}, planned again: {error}", 0, 1),
        )

    # The steps of a take, as `takes.TakeSteps` has them.

    def plan(self, attempt: int) -> TakePlan:
        models = self.job.models
        self.plan_made = plan_take(
            self.job.board,
            self.index,
            attempt=attempt,
            renditions=self.rendition_digests,
            base=models.stage(Stage.BASE),
            sr=None if models.sr is None else models.stage(Stage.UPSCALE),
        )
        return self.plan_made

    def encode_prompts(self, take: TakePlan) -> None:
        self.engine.encode_prompts(take)

    def render_segment(self, take: TakePlan, segment: PlannedSegment) -> None:
        what = _LABELS[segment.stage]
        retake = f", take {take.attempt + 1}" if take.attempt else ""
        label = f"{self.job.board.shot_name(self.index)}{retake}, {what} "
        label += f"{segment.number + 1} of {segment.count}"
        self.job.progress(label, 0, segment.steps)
        steps_run = self.engine.render_segment(
            take,
            segment,
            progress=lambda step, steps: self.job.progress(label, step, steps),
            waiting=lambda holder: self.job.progress(f"{label}: held by {holder}", 0, 1),
        )
        if not steps_run:
            self.job.progress(label, 1, 1)

    def make_drafts(self, take: TakePlan, stage: Stage) -> None:
        self.engine.make_drafts(take, stage)

    def decode(self, take: TakePlan) -> None:
        self.engine.decode(take, self.mezzanine)

    def gate(self, take: TakePlan, takes_left: int) -> scorer.Verdict:
        with self._open_assets() as assets:
            self.scores = scorer.measure(gate_film(take, self.mezzanine, assets))
        self.judgement = scorer.judge(self.scores, takes_left=max(0, takes_left), fps=take.fps)
        return self.judgement.verdict

    # The files of a take, as `windows.Assets` has them.

    @contextmanager
    def _open_assets(self) -> Iterator[_Shot]:
        yield self

    def rendition(self, index: int) -> Path:
        return self.renditions[index].path

    def target(self, index: int) -> Path:
        return self.renditions[index].delivered.path

    def animatic(self) -> Path | None:
        return None if self.draft is None else self.draft.path

    # What is delivered.

    def film(self) -> ShotFilm:
        return ShotFilm(
            mezzanine=self.mezzanine,
            frames=self.plan_made.frames,
            conditions=self.rendition_digests.placed,
            notes=shot_notes(self.plan_made.shot),
        )

    def record(self) -> ShotRecord:
        take, draft = self.plan_made, self.draft
        windows = {
            stage: window_records((each.key, each.window) for each in take.of_stage(stage))
            for stage in take.stages
        }
        return ShotRecord(
            name=self.job.board.shot_name(self.index),
            frames=take.frames,
            loop=take.base.loop,
            draft=draft_record(
                take.shot,
                asset=None if draft is None else file_digest(draft.asset),
                rendition=None if draft is None else draft.digest,
                spec=None if draft is None else draft.spec,
            ),
            take=take.attempt,
            seed=take.seed,
            verdict=self.judgement.verdict.value,
            reasons=list(self.judgement.reasons),
            scores=score_records(self.scores),
            coarse=windows.get(Stage.COARSE),
            segments=windows[Stage.BASE],
            upscaled=windows.get(Stage.UPSCALE),
            conditions=[
                condition_record(
                    each.placed,
                    asset=file_digest(each.asset),
                    rendition=each.digest,
                    spec=each.spec,
                    target=None if each.target is None else (each.target.digest, each.target.spec),
                )
                for each in self.renditions
            ],
        )
