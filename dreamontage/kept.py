"""A shot's segments rendered in this process, each kept in a folder under its key: what is found
there is not rendered again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamontage.chains import Maker, base_keys, sampler_told, upscale_keys
from dreamontage.conditioning import Clip, Keyframe
from dreamontage.intake import Ingested, Rendition
from dreamontage.pictures import Picture
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.plan import Geometry, Segment, ShotPlan, plan_shot
from dreamontage.sampling import DenoiseState, Sampler
from dreamontage.sar import fuse
from dreamontage.seeds import take_seed
from dreamontage.storyboard import Storyboard
from dreamontage.take import load_condition, load_draft, write_take
from dreamontage.upscale.enlarge import cut, enlarge, met_again
from dreamontage.upscale.stage import grid_of, placed, refine
from dreamontage.upscale.upscaler import Upscaler

Progress = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and of how much."""

ATTEMPT = 0  # there is one take a shot


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model, and how a storyboard has it sampled."""

    pipe: DreaMontagePipeline
    sampler: Sampler
    negative_prompt: str

    @property
    def maker(self) -> Maker:
        return Maker(
            revision=self.pipe.revision,
            machine=f"{self.pipe.device.type} {str(self.pipe.dtype).removeprefix('torch.')}",
            sampler=sampler_told(
                steps=self.sampler.steps,
                guidance=self.sampler.guidance,
                image_guidance=self.sampler.image_guidance,
            ),
            negative_prompt=self.negative_prompt,
        )


@dataclass(frozen=True, kw_only=True)
class Refiner(Model):
    """The super-resolution model, and how it enlarges."""

    upscaler: Upscaler


class KeptShot:
    """One shot on its way through the models."""

    def __init__(
        self,
        board: Storyboard,
        index: int,
        *,
        renditions: Sequence[Rendition],
        animatic: Ingested | None,
        model: Model,
        sr: Refiner | None,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.board, self.index, self.model, self.sr = board, index, model, sr
        self.folder, self.progress = folder, progress
        self.wanted = board.shots[index]
        self.renditions, self.animatic = renditions, animatic
        self.placed = [rendition.placed for rendition in renditions]
        self.seed = take_seed(board.shot_seed(index), ATTEMPT)
        self.frames = self.wanted.frames(board.fps)
        self.plan = self._planned(model.pipe.geometry)
        self.upscaled = None if sr is None else self._planned(sr.pipe.geometry)

    def _planned(self, geometry: Geometry) -> ShotPlan:
        return plan_shot(
            frames=self.frames,
            fps=self.board.fps,
            prompts=self.wanted.prompts,
            conditions=self.placed,
            seed=self.seed,
            geometry=geometry,
            loop=self.wanted.loop,
        )

    @cached_property
    def keys(self) -> list[tuple[str, Segment]]:
        """The base segments', with their windows."""
        found = base_keys(
            self.plan,
            self.wanted,
            by=self.model.maker,
            size=self.board.size,
            placed=self.placed,
            digests=[each.digest for each in self.renditions],
            animatic=None if self.animatic is None else self.animatic.digest,
        )
        return list(zip(found, self.plan.segments, strict=True))

    @cached_property
    def upscaled_keys(self) -> list[tuple[str, Segment]]:
        """Those of the super-resolution stage, if the film is enlarged."""
        if self.sr is None or self.upscaled is None:
            return []
        found = upscale_keys(
            self.upscaled,
            by=self.sr.maker,
            upscaler=self.sr.upscaler,
            size=self.board.target,
            seed=self.seed,
            placed=self.placed,
            digests=[each.shown.digest for each in self.renditions],
            base=[(segment, key) for key, segment in self.keys],
        )
        return list(zip(found, self.upscaled.segments, strict=True))

    @property
    def joins(self) -> tuple[int, ...]:
        """Where windows of either stage meet."""
        plans = [self.plan, *([self.upscaled] if self.upscaled else [])]
        return tuple(sorted({join for plan in plans for join in plan.joins}))

    def write(self, out: Path) -> Path:
        """Render what is not kept yet, and write the take, losslessly, in the target's size."""
        sr, target = self.sr, self.board.target
        return write_take(
            self.model.pipe.vae if sr is None else sr.pipe.vae,
            self._windows() if sr is None else self._refined(sr),
            out,
            frames=self.frames,
            width=target.width,
            height=target.height,
            fps=self.board.fps,
        )

    def _windows(self) -> Iterator[tuple[Segment, Tensor]]:
        size, model = self.board.size, self.model
        conditions = [load_condition(each.placed, each.path) for each in self.renditions]
        track = model.pipe.track(conditions, size.height, size.width)

        def denoised(
            segment: Segment, previous_BCLHW: Tensor | None, first_BCLHW: Tensor | None
        ) -> Iterator[DenoiseState]:
            return model.pipe.denoise_segment(
                segment,
                track=track,
                previous_BCLHW=previous_BCLHW,
                head_BCLHW=first_BCLHW,
                draft=self._draft(segment, conditions),
                strength=self.wanted.draft_strength,
                height=size.height,
                width=size.width,
                sampler=model.sampler,
                negative_prompt=model.negative_prompt,
            )

        return self._chain(self.keys, "segment", denoised)

    def _refined(self, sr: Refiner) -> Iterator[tuple[Segment, Tensor]]:
        """The enlarged film is made as far as it is needed, and with it the base segments."""
        size = sr.upscaler.size(self.board.size.height, self.board.size.width)
        grid = sr.upscaler.padded(
            self.board.size.height, self.board.size.width, multiple=grid_of(sr.pipe)
        )
        segments = [segment for _, segment in self.upscaled_keys]
        film = met_again(enlarge(sr.pipe.vae, fuse(self._windows()), size, grid), segments[-1].head)
        windows = cut(film, segments)

        def refined(
            segment: Segment, previous_BCLHW: Tensor | None, first_BCLHW: Tensor | None
        ) -> Iterator[DenoiseState]:
            enlarged_BCLHW = next(
                window_BCLHW for each, window_BCLHW in windows if each.index == segment.index
            )
            inside = [self.renditions[index] for index in segment.conditions]
            conditions = [load_condition(each.placed, each.shown.path) for each in inside]
            return refine(
                segment,
                pipe=sr.pipe,
                upscaler=sr.upscaler,
                enlarged_BZLHW=enlarged_BCLHW,
                track=placed(conditions, pipe=sr.pipe, size=size, grid=grid),
                previous_BZLHW=previous_BCLHW,
                head_BZLHW=first_BCLHW,
                sampler=sr.sampler,
                negative_prompt=sr.negative_prompt,
                seed=self.seed,
            )

        return self._chain(self.upscaled_keys, "upscaling", refined)

    def _chain(
        self,
        keys: Sequence[tuple[str, Segment]],
        what: str,
        states_of: Callable[[Segment, Tensor | None, Tensor | None], Iterator[DenoiseState]],
    ) -> Iterator[tuple[Segment, Tensor]]:
        """Each segment with its latents, kept or made of the one before and, in a loop, the first.

        ``states_of``: denoises a segment, given these two.
        """
        latents_BCLHW: Tensor | None = None
        first_BCLHW: Tensor | None = None
        for number, (key, segment) in enumerate(keys, start=1):
            file = self.folder / f"{key}.safetensors"
            told = f"{self.board.shot_name(self.index)}, {what} {number} of {len(keys)}"
            if file.exists():
                self.progress(told, 1, 1)
                latents_BCLHW = load_file(file)["latents"]
            else:
                for state in states_of(segment, latents_BCLHW, first_BCLHW):
                    self.progress(told, state.step, state.total)
                latents_BCLHW = state.latents_BCLHW.float().cpu().contiguous()
                _save(file, latents_BCLHW)
            if self.wanted.loop and first_BCLHW is None:
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
