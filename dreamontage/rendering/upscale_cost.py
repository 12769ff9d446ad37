"""What enlarging a storyboard's shots will cost: for `dreamontage plan`, from configs alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from dreamontage.models.folder import flow_shift
from dreamontage.pipeline.upscale.model import SrModel
from dreamontage.planning.cost import Estimate, refine_estimate, steps_below
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.planning.upscale_settings import Upscaler, spans
from dreamontage.rendering.model_facts import Model
from dreamontage.storyboard import Storyboard
from dreamontage.storyboard.placement import Placed


@dataclass(frozen=True, kw_only=True)
class UpscalePlan:
    """A storyboard's way to its target size.

    ``tile``: height and width of one, in latents; there are ``tiles`` of them. ``run_steps``: how
    many of the model's steps are left at the noise level where refining starts.
    """

    board: Storyboard
    model: Model
    upscaler: Upscaler
    tile: tuple[int, int]
    tiles: int
    run_steps: int

    @classmethod
    def of(cls, board: Storyboard, model: Model) -> Self:
        """By the SR model ``model``, which `folder_errors` has found nothing against.

        Raises `ValueError` naming the file that is missing or wrong.
        """
        assert board.upscale is not None
        sr = SrModel.from_folder(model.folder)
        upscaler = sr.upscaler(board.upscale)
        padded = upscaler.padded(board.size.height, board.size.width, multiple=sr.multiple)
        rows, columns = (
            spans(side // sr.spatial_scale, most, upscaler.overlap_latents, step)
            for side, most, step in zip(padded, upscaler.tile_latents, sr.patch, strict=True)
        )
        return cls(
            board=board,
            model=model,
            upscaler=upscaler,
            tile=(len(rows[0]), len(columns[0])),
            tiles=len(rows) * len(columns),
            run_steps=steps_below(upscaler.strength, model.steps, flow_shift(model.folder)),
        )

    def shot(
        self, index: int, conditions: Sequence[Placed], flops_per_second: float
    ) -> tuple[ShotPlan, Estimate]:
        """A shot's windows, and what they cost."""
        shot = self.board.shots[index]
        plan = plan_shot(
            frames=shot.frames(self.board.fps),
            fps=self.board.fps,
            prompts=shot.prompts,
            conditions=conditions,
            seed=self.board.shot_seed(index),
            geometry=self.model.geometry,
            loop=shot.loop,
        )
        # A loop's first frame is a still to its closing window.
        begin = [each.latents.start for each in conditions]
        appended = [
            sum(part.start <= start < part.stop for start in begin) + bool(part.head)
            for part in plan.segments
        ]
        cost = refine_estimate(
            plan,
            transformer_config=self.model.config,
            tiles=self.tiles,
            tile=self.tile,
            appended=appended if self.upscaler.shared_rope else [0] * len(appended),
            steps=self.run_steps,
            guided=self.model.guidance > 1,
            flops_per_second=flops_per_second,
            text_tokens=self.model.text_tokens,
            bytes_per_value=self.model.bytes_per_value,
        )
        return plan, cost

    def to_json(self) -> dict[str, Any]:
        """What holds for every shot, as JSON."""
        return {
            "scale": self.upscaler.scale,
            "size": [self.board.target.width, self.board.target.height],
            "steps": self.model.steps,
            "run_steps": self.run_steps,
            "guidance": self.model.guidance,
            "tile_latents": list(self.tile),
            "tiles": self.tiles,
            "model": self.model.to_json(),
        }
