"""What is asked of a shot, from which its levels are planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from dreamontage.planning.coarse import (
    CoarseLevel,
    coarse_level,
    stride_error,
    stride_for,
)
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.storyboard import AUTO, Coarse, PromptSpan, Storyboard
from dreamontage.storyboard.placement import Placed


@dataclass(frozen=True, kw_only=True)
class ShotRequest:
    """A shot, before anything is known of the model that renders it. `seed` is the take's."""

    frames: int
    fps: Fraction
    prompts: Sequence[PromptSpan]
    conditions: Sequence[Placed]
    seed: int
    loop: bool = False
    coarse: Coarse = AUTO

    @classmethod
    def of(
        cls, board: Storyboard, shot_index: int, conditions: Sequence[Placed], seed: int
    ) -> ShotRequest:
        """That of a storyboard's shot."""
        shot = board.shots[shot_index]
        return cls(
            frames=shot.frames(board.fps),
            fps=board.fps,
            prompts=shot.prompts,
            conditions=conditions,
            seed=seed,
            loop=shot.loop,
            coarse=shot.coarse,
        )

    def plan(self, geometry: Geometry) -> ShotPlan:
        """The shot's segments at its full rate.

        Raises:
            ValueError: for a loop that is too short for the model.
        """
        return plan_shot(
            frames=self.frames,
            fps=self.fps,
            prompts=self.prompts,
            conditions=self.conditions,
            seed=self.seed,
            geometry=geometry,
            loop=self.loop,
        )

    def coarse_level(self, geometry: Geometry, *, refinable: bool) -> CoarseLevel | None:
        """The level that is rendered before the full rate, if there is one.

        Args:
            refinable: what `coarse.can_refine` says of the model.

        Raises:
            ValueError: for a stride that the model or the loop cannot have.
        """
        problem = stride_error(
            self.coarse, self.frames, geometry, loop=self.loop, refinable=refinable
        )
        if problem:
            raise ValueError(f"coarse = {self.coarse}: {problem}")
        stride = self._stride(geometry) if refinable else 1
        if stride == 1:
            return None
        return coarse_level(
            stride,
            frames=self.frames,
            fps=self.fps,
            prompts=self.prompts,
            conditions=self.conditions,
            seed=self.seed,
            geometry=geometry,
            loop=self.loop,
        )

    def _stride(self, geometry: Geometry) -> int:
        if self.coarse == "off":
            return 1
        if self.coarse != AUTO:
            return self.coarse
        return stride_for(
            frames=self.frames,
            conditions=self.conditions,
            geometry=geometry,
            loop=self.loop,
        )
