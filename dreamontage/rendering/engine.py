"""The render engine: one take's segments, enlarging, decoding and measuring, against a ledger.

`dreamontage render` and the farm call these same functions. Each is safe to run twice: finished
work is found by its key, and what is lost or torn is rendered again, however many segments it is.

Shape legend: B batch, C channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from dreamontage import scorer
from dreamontage.digests import digest
from dreamontage.models import autoencoder
from dreamontage.pipeline import acceleration
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.pipeline.coarse import fine_drafts
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.pipeline.sar import fuse
from dreamontage.pipeline.upscale.enlarge import append_loop_head, enlarge, split_windows
from dreamontage.pipeline.upscale.stage import grid_of
from dreamontage.planning.segments import Segment
from dreamontage.rendering.ledger import Ledger, LostLatents, Waiting
from dreamontage.rendering.take import write_take
from dreamontage.rendering.take_plan import PlannedSegment, Stage, TakePlan
from dreamontage.rendering.windows import Assets, Inputs, base_states, upscale_states
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.sampling.state import DenoiseState, state_from_bytes, state_to_bytes
from dreamontage.storyboard.placement import condition_label

Progress = Callable[[int, int], None]
"""Called after each denoise step with the step, and how many there are."""


class Models(Protocol):
    """The models of a take, loaded when they are first asked for."""

    def pipeline(self, stage: Stage) -> DreaMontagePipeline: ...

    def machine(self, stage: Stage) -> str:
        """Where the stage's model computes, as segment keys say it (`models.machine`)."""
        ...

    def text_revision(self, stage: Stage) -> str:
        """What determines a prompt's embedding, beside the prompt and the machine."""
        ...

    def encode(self, stage: Stage, prompts: Sequence[str]) -> Iterator[Tensor]:
        """Each prompt's embedding, embedding_BSD."""
        ...


class OpenAssets(Protocol):
    """Opens a take's renditions as files, for as long as a step needs them."""

    def __call__(self) -> AbstractContextManager[Assets]: ...


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Renders takes with these models, into this ledger.

    ``checkpoint_every``: denoise steps between two stored states.
    """

    ledger: Ledger
    models: Models
    assets: OpenAssets
    checkpoint_every: int = 4

    def encode_prompts(self, plan: TakePlan) -> int:
        """Make sure that all prompts of a take are encoded; returns how many were new."""
        new = 0
        for stage in plan.stages:
            missing = [
                prompt
                for prompt in plan.prompts(stage)
                if self.ledger.embedding(self._embedding_key(plan, stage, prompt)) is None
            ]
            self._encode(plan, stage, missing)
            new += len(missing)
        return new

    def render_segment(
        self,
        plan: TakePlan,
        segment: PlannedSegment,
        *,
        progress: Progress = lambda step, steps: None,
        waiting: Waiting = lambda holder: None,
    ) -> int:
        """Make sure that a segment is finished; returns how many denoise steps this call ran.

        A finished segment costs nothing, nor does one whose film is refined already. A segment
        that is held elsewhere is waited for, and is taken over from its last checkpoint if its
        holder dies.

        Raises:
            StaleTake: when the loaded model would give the segment another key.
            LostLease: when a farm's worker was too slow to keep its lease. Call again.
        """
        if self.ledger.is_finished(segment.key) or self._is_refined(plan, segment):
            return 0
        # Before the claim: what is lost of the segments before this one is rendered first.
        inputs = self._inputs(plan, segment)
        with self.ledger.claim(segment.key, steps=segment.steps, waiting=waiting) as claim:
            if claim is None:
                return 0
            pipe = self._checked_pipeline(plan, segment)
            # What a step cache holds is in no stored state: with one, a segment starts from noise.
            resumable = acceleration.resumable(getattr(pipe, "speed", SpeedOptions()))
            stored = claim.checkpoint if resumable else None
            state = state_from_bytes(stored) if stored else None
            states = self._states(plan, segment, pipe, inputs, state)
            run = recorded = 0
            for state in states:
                run += 1
                progress(state.step, state.total)
                due = resumable and state.step % self.checkpoint_every == 0
                if due and not state.done:
                    claim.save_checkpoint(
                        state_to_bytes(state), step=state.step, steps_run=run - recorded
                    )
                    recorded = run
            assert state is not None
            assert state.done, "a checkpoint is never of the last step"
            claim.finish(state.latents_BCLHW, steps_run=run - recorded)
            return run

    def latents(self, plan: TakePlan, segment: PlannedSegment) -> Tensor:
        """A segment's latents, latents_BCLHW; rendered here if they are not there, or not any more.

        Raises as `render_segment`.
        """
        for _ in range(3):
            try:
                return self.ledger.latents(segment.key)
            except LostLatents:
                self.render_segment(plan, segment)
        return self.ledger.latents(segment.key)

    def make_drafts(self, plan: TakePlan, stage: Stage) -> int:
        """Make sure that every window of a stage that is not finished has its part of the film of
        the stage before, in this stage's frames and size; returns how many were made.

        Decoding and encoding are causal: a window far into a film cannot be made without all that
        comes before it. So a take's film is made once, in one pass.
        """
        segments = plan.of_stage(stage)
        missing = [each.number for each in segments if self._needs_draft(plan, each)]
        if not missing:
            return 0
        windows = self._enlarged if stage is Stage.UPSCALE else self._at_full_rate
        for window, draft_BCLHW in windows(plan):
            if window.index in missing:
                self.ledger.put_draft(segments[window.index].key, draft_BCLHW)
            if window.index == missing[-1]:
                break  # nothing waits for what comes after it
        return len(missing)

    def decode(self, plan: TakePlan, out: Path) -> Path:
        """Fuse, decode and write the take's frames, losslessly, in the size that is delivered.

        Latents that are lost are rendered again on the way. Raises as `render_segment`.
        """
        target = plan.board.target
        segments = plan.of_stage(plan.last_stage)
        pipe = self._checked_pipeline(plan, segments[-1])
        return write_take(
            pipe.vae,
            ((each.window, self.latents(plan, each)) for each in segments),
            out,
            frames=plan.frames,
            width=target.width,
            height=target.height,
            fps=plan.fps,
        )

    def embedding(self, plan: TakePlan, stage: Stage, prompt: str) -> Tensor:
        """A prompt's embedding for a stage's model, embedding_BSD; encoded here if it is not
        stored."""
        key = self._embedding_key(plan, stage, prompt)
        found = self.ledger.embedding(key)
        if found is None:
            self._encode(plan, stage, [prompt])
            found = self.ledger.embedding(key)
            assert found is not None
        return found

    def _checked_pipeline(self, plan: TakePlan, segment: PlannedSegment) -> DreaMontagePipeline:
        """The pipeline that the segment was planned for. Raises `StaleTake` if it is another."""
        pipe = self.models.pipeline(segment.stage)
        machine = self.models.machine(segment.stage)
        plan.check(segment, revision=pipe.revision, machine=machine)
        return pipe

    def _encode(self, plan: TakePlan, stage: Stage, prompts: Sequence[str]) -> None:
        if not prompts:
            return
        for prompt, embedding_BSD in zip(prompts, self.models.encode(stage, prompts), strict=True):
            self.ledger.put_embedding(self._embedding_key(plan, stage, prompt), embedding_BSD)

    def _embedding_key(self, plan: TakePlan, stage: Stage, prompt: str) -> str:
        return digest(
            {
                "text": self.models.text_revision(stage),
                "machine": plan.model(stage).settings.machine,
                "prompt": prompt,
            }
        )

    def _inputs(self, plan: TakePlan, segment: PlannedSegment) -> Inputs:
        """What the segment is denoised from, beside its conditions: the chain of SAR."""
        settings = plan.model(segment.stage).settings
        previous, first = plan.previous(segment), plan.first(segment)
        draft_BCLHW = None
        if plan.earlier(segment.stage):
            draft_BCLHW = self.ledger.draft(segment.key)
            if draft_BCLHW is None:
                self.make_drafts(plan, segment.stage)
                draft_BCLHW = self.ledger.draft(segment.key)
        guided = settings.sampler["guidance"] > 1
        return Inputs(
            previous_BCLHW=None if previous is None else self.latents(plan, previous),
            first_BCLHW=None if first is None else self.latents(plan, first),
            draft_BCLHW=draft_BCLHW,
            prompt_embeds=self.embedding(plan, segment.stage, segment.window.prompt),
            negative_prompt_embeds=(
                self.embedding(plan, segment.stage, settings.negative_prompt) if guided else None
            ),
        )

    def _states(
        self,
        plan: TakePlan,
        segment: PlannedSegment,
        pipe: DreaMontagePipeline,
        inputs: Inputs,
        state: DenoiseState | None,
    ) -> Iterator[DenoiseState]:
        states_of = upscale_states if segment.stage is Stage.UPSCALE else base_states
        with self.assets() as assets:
            states = states_of(plan, segment, pipe, inputs, assets, state)
        yield from states

    def _is_refined(self, plan: TakePlan, segment: PlannedSegment) -> bool:
        """Whether a later stage has finished the whole take."""
        # The last window is the first that is not finished, of most takes.
        return any(
            all(self.ledger.is_finished(each.key) for each in reversed(plan.of_stage(stage)))
            for stage in plan.later(segment.stage)
        )

    def _needs_draft(self, plan: TakePlan, segment: PlannedSegment) -> bool:
        return not (
            self.ledger.is_finished(segment.key)
            or self.ledger.has_draft(segment.key)
            or self._is_refined(plan, segment)
        )

    def _at_full_rate(self, plan: TakePlan) -> Iterator[tuple[Segment, Tensor]]:
        """The coarse film at the shot's rate, cut into the base stage's windows; made as it is
        read. Holds the coarse film's frames."""
        level, size = plan.coarse, plan.board.size
        assert level is not None
        pipe = self._checked_pipeline(plan, plan.of_stage(Stage.BASE)[0])
        coarse = ((each.window, self.latents(plan, each)) for each in plan.of_stage(Stage.COARSE))
        film_THWC = np.concatenate(
            [autoencoder.to_uint8(each) for each in autoencoder.decode(pipe.vae, fuse(coarse))]
        )
        drafts = fine_drafts(level, film_THWC)
        for window in plan.base.segments:
            film_BCTHW = pixels(drafts(window), size.height, size.width)
            yield window, autoencoder.encode(pipe.vae, film_BCTHW)

    def _enlarged(self, plan: TakePlan) -> Iterator[tuple[Segment, Tensor]]:
        """The enlarged film, cut into the super-resolution model's windows; made as it is read."""
        assert plan.upscale is not None
        upscaler = plan.model(Stage.UPSCALE).upscaler
        assert upscaler is not None
        pipe = self._checked_pipeline(plan, plan.of_stage(Stage.UPSCALE)[0])
        height, width = plan.board.size.height, plan.board.size.width
        base = ((each.window, self.latents(plan, each)) for each in plan.of_stage(Stage.BASE))
        film = enlarge(
            pipe.vae,
            fuse(base),
            upscaler.size(height, width),
            upscaler.padded(height, width, multiple=grid_of(pipe)),
        )
        windows = plan.upscale.segments
        return split_windows(append_loop_head(film, windows[-1].head), windows)


def gate_film(plan: TakePlan, mezzanine: Path, assets: Assets) -> scorer.Film:
    """A decoded take as the gate measures it."""
    return scorer.Film(
        path=mezzanine,
        fps=plan.fps,
        marks=tuple(
            scorer.Mark(
                frame=placed.frame,
                frames=placed.frames,
                picture=assets.target(placed.index),
                label=condition_label(placed, plan.fps),
            )
            for placed in plan.renditions.placed
        ),
        joins=plan.joins,
        loop=plan.shot.loop,
    )
