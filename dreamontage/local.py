"""A storyboard rendered in this process, with no server: what ``dreamontage render`` does.

Finished segments are kept beside the film under their keys, so that a render that was stopped, or
whose end was edited, goes on where the two agree.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamontage import keys, scorer, speed
from dreamontage.conditioning import Clip, Keyframe
from dreamontage.draft import key_of
from dreamontage.faults import StoryboardError
from dreamontage.film import (
    Deliverables,
    ShotFilm,
    ToldCondition,
    deliver,
    shot_notes,
    told_draft,
    told_shot,
)
from dreamontage.intake import (
    Ingested,
    Rendition,
    condition_label,
    file_digest,
    of_shot,
    take_in,
    take_in_drafts,
)
from dreamontage.pictures import Picture
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.plan import Segment, ShotPlan, model_faults, plan_shot
from dreamontage.sampling import entry
from dreamontage.seeds import take_seed
from dreamontage.speed import SpeedOptions
from dreamontage.storyboard import Storyboard
from dreamontage.take import load_condition, load_draft, write_take

Progress = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and of how much."""

_ATTEMPT = 0  # there is one take a shot


def render(
    board: Storyboard,
    base: Path,
    folder: Path,
    pipe: DreaMontagePipeline,
    *,
    name: str,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Deliverables, list[scorer.Judgement]]:
    """Render a film into ``folder``: one take a shot, judged but not retaken.

    Raises:
        StoryboardError: with every asset that cannot be used, and what this model cannot render,
            before anything is rendered.
        ValueError: for a draft's strength that so few steps have no noise level for.
    """
    sampler = pipe.sampler(board.sampler.steps, board.sampler.guidance)
    for shot in board.shots:
        if shot.draft is not None:
            entry(pipe.scheduler, sampler.steps, shot.draft_strength)
    if faults := model_faults(board, pipe.geometry):
        raise StoryboardError(faults)
    kept = folder / "segments"
    kept.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="dreamontage-") as scratch:
        work = Path(scratch)
        renditions = take_in(
            board, base, work, progress=lambda asset: progress(f"taking in {asset}", 0, 1)
        )
        drafts = take_in_drafts(
            board, base, work, progress=lambda asset: progress(f"taking in {asset}", 0, 1)
        )
        shots, judgements, told = [], [], []
        for index in range(len(board.shots)):
            one = _Shot(board, index, of_shot(renditions, index), drafts.get(index), pipe, kept)
            film = one.render(work / f"shot{index}.mkv", progress)
            shots.append(film)
            scores = scorer.measure(one.film(film.mezzanine))
            judgement = scorer.judge(scores, takes_left=0, fps=board.fps)
            judgements.append(judgement)
            told.append(
                told_shot(
                    name=board.shot_name(index),
                    frames=one.frames,
                    loop=one.plan.loop,
                    draft=one.told_draft(),
                    attempt=_ATTEMPT,
                    seed=one.seed,
                    segments=list(zip(one.keys, one.plan.segments, strict=True)),
                    conditions=[
                        ToldCondition(
                            placed=each.placed,
                            asset=file_digest(each.asset),
                            rendition=each.digest,
                            spec=each.spec,
                        )
                        for each in one.renditions
                    ],
                    verdict=judgement.verdict.value,
                    reasons=judgement.reasons,
                    scores=scores,
                )
            )
        progress("writing the film", 0, 1)
        made = deliver(
            board,
            shots,
            folder,
            name=name,
            smoke=pipe.config.maturity == "smoke",
            record={
                "model": {
                    "revision": pipe.revision,
                    "machine": _machine_of(pipe),
                    "speed": speed.told(getattr(pipe, "speed", SpeedOptions())),
                },
                "sampler": _sampler_of(pipe, board),
                "shots": told,
            },
        )
    return made, judgements


def _machine_of(pipe: DreaMontagePipeline) -> str:
    return f"{pipe.device.type} {str(pipe.dtype).removeprefix('torch.')}"


def _sampler_of(pipe: DreaMontagePipeline, board: Storyboard) -> dict[str, int | float]:
    sampler = pipe.sampler(board.sampler.steps, board.sampler.guidance)
    return {"steps": sampler.steps, "guidance": sampler.guidance}


class _Shot:
    """One shot on its way through the model."""

    def __init__(
        self,
        board: Storyboard,
        index: int,
        renditions: Sequence[Rendition],
        animatic: Ingested | None,
        pipe: DreaMontagePipeline,
        kept: Path,
    ) -> None:
        self.board, self.index, self.pipe, self.kept = board, index, pipe, kept
        self.wanted = board.shots[index]
        self.renditions, self.animatic = renditions, animatic
        self.placed = [rendition.placed for rendition in renditions]
        self.seed = take_seed(board.shot_seed(index), _ATTEMPT)
        self.frames = self.wanted.frames(board.fps)
        self.plan: ShotPlan = plan_shot(
            frames=self.frames,
            fps=board.fps,
            prompts=self.wanted.prompts,
            conditions=self.placed,
            seed=self.seed,
            geometry=pipe.geometry,
            loop=self.wanted.loop,
        )
        self.keys: list[str] = []

    def render(self, out: Path, progress: Progress) -> ShotFilm:
        size = self.board.size
        mezzanine = write_take(
            self.pipe.vae,
            self._windows(progress),
            out,
            frames=self.frames,
            width=size.width,
            height=size.height,
            fps=self.board.fps,
        )
        return ShotFilm(
            mezzanine=mezzanine,
            frames=self.frames,
            conditions=self.placed,
            notes=shot_notes(self.wanted),
        )

    def told_draft(self) -> dict[str, Any] | None:
        made = self.animatic
        if made is None:
            return told_draft(self.wanted)
        return told_draft(
            self.wanted,
            asset=file_digest(made.asset),
            rendition=made.digest,
            spec=dict(made.spec),
        )

    def film(self, mezzanine: Path) -> scorer.Film:
        return scorer.Film(
            path=mezzanine,
            fps=self.board.fps,
            marks=tuple(
                scorer.Mark(
                    frame=each.placed.frame,
                    frames=each.placed.frames,
                    picture=each.path,
                    label=condition_label(each.placed, self.board.fps),
                )
                for each in self.renditions
            ),
            joins=self.plan.joins,
            loop=self.plan.loop,
        )

    def _windows(self, progress: Progress) -> Iterator[tuple[Segment, Tensor]]:
        size, pipe = self.board.size, self.pipe
        conditions = [load_condition(each.placed, each.path) for each in self.renditions]
        track = pipe.track(conditions, size.height, size.width)
        digests = [each.digest for each in self.renditions]
        animatic = None if self.animatic is None else self.animatic.digest
        sampler = _sampler_of(pipe, self.board)
        latents_BCLHW: Tensor | None = None
        first_BCLHW: Tensor | None = None
        for segment in self.plan.segments:
            key = keys.segment_key(
                model_revision=pipe.revision,
                machine=_machine_of(pipe),
                segment=segment,
                conditions=keys.window_conditions(segment, self.placed, digests),
                width=size.width,
                height=size.height,
                negative_prompt=self.board.negative_prompt if sampler["guidance"] > 1 else "",
                sampler=sampler,
                previous=self.keys[-1] if self.keys else None,
                head=self.keys[0] if segment.head else None,
                draft=key_of(
                    segment,
                    self.plan,
                    self.wanted,
                    placed=self.placed,
                    digests=digests,
                    animatic=animatic,
                ),
            )
            self.keys.append(key)
            file = self.kept / f"{key}.safetensors"
            what = (
                f"{self.board.shot_name(self.index)}, "
                f"segment {segment.index + 1} of {len(self.plan.segments)}"
            )
            if file.exists():
                progress(what, 1, 1)
                latents_BCLHW = load_file(file)["latents"]
            else:
                for state in pipe.denoise_segment(
                    segment,
                    track=track,
                    previous_BCLHW=latents_BCLHW,
                    head_BCLHW=first_BCLHW,
                    draft=self._draft(segment, conditions),
                    strength=self.wanted.draft_strength,
                    height=size.height,
                    width=size.width,
                    sampler=pipe.sampler(self.board.sampler.steps, self.board.sampler.guidance),
                    negative_prompt=self.board.negative_prompt,
                ):
                    progress(what, state.step, state.total)
                latents_BCLHW = state.latents_BCLHW.float().cpu().contiguous()
                _save(file, latents_BCLHW)
            if self.plan.loop and first_BCLHW is None:
                first_BCLHW = latents_BCLHW
            yield segment, latents_BCLHW

    def _draft(
        self, segment: Segment, conditions: Sequence[Keyframe | Clip]
    ) -> Sequence[Picture] | None:
        if self.wanted.draft is None:
            return None
        return load_draft(
            segment,
            self.plan,
            self.placed,
            load=lambda index: conditions[index],
            animatic=None if self.animatic is None else self.animatic.path,
        )


def _save(file: Path, latents_BCLHW: Tensor) -> None:
    """Whole or not at all: a render may be stopped at any moment."""
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        save_file({"latents": latents_BCLHW}, temporary)
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
