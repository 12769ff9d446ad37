"""What nano's recipes are fitted to: a GPU, a CPU core, or seconds of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamontage.training.loop.recipe import Recipe
from dreamontage.training.objectives import nano
from dreamontage.training.objectives.adaptive import Shape, Study


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Sizes that the stages of a chain have in common.

    `share` divides the number of windows of a batch, and of held-out windows. `options` are the
    machine's own fields of `Recipe`.
    """

    name: str
    size: nano.Size
    superres: nano.Size
    small: tuple[int, int]  # height and width, in pixels, of the clips that are learnt first
    film: tuple[int, int]  # the same of the films
    tile: tuple[int, int]  # the same of what super-resolution learns
    latents: int
    share: int
    finish: int = 192  # width of the codec's finish
    options: Mapping[str, Any] = field(default_factory=dict)

    def shape(
        self, weight: float, size: tuple[int, int], batch: int, latents: int = 0, **more: float
    ) -> Shape:
        """Batches of one size; `latents` of a window, the machine's if 0."""
        height, width = size
        return Shape(
            weight=weight,
            latents=latents or self.latents,
            height=height,
            width=width,
            batch=max(2, batch // self.share),
            **more,
        )

    def study(self, *shapes: Shape, held_out: int = 24, **more: Any) -> Study:
        """What a stage learns from; `more` goes to `Study`."""
        return Study(
            shapes=shapes, held_out=max(2, held_out // self.share), **{"size": self.size} | more
        )

    def recipe(self, stage: str, build: Callable[..., Any], **more: Any) -> Recipe:
        """A stage's recipe; `more` goes to `Recipe`, over the machine's options."""
        return Recipe(name=f"nano_{stage}_{self.name}", build=build, **{**self.options, **more})


# A GPU trains this size, and two CPU cores can still run it.
H100 = Machine(
    name="h100",
    size=nano.Size(heads=6, layers=6, ffn=1024),
    superres=nano.Size(heads=4, layers=5, ffn=768, patch=(1, 2, 2)),
    small=(64, 64),
    film=(80, 128),
    tile=(144, 144),
    latents=13,
    share=1,
    options={
        "device": "cuda",
        "bfloat16": True,
        "compiled": True,
        "learning_rate": 1.5e-3,
        "block": 4,
        "pool": 4,
        "uses": 4,  # drawing takes a fast device's time, too
        "prefetch": 2,
        "checkpoint_minutes": 2.0,
        "sheet_minutes": 1.0,
        "export_minutes": 1.0,  # a machine may be gone the next minute
    },
)
# Every stage in seconds on one core: it shows that the chain runs, and nothing else.
SMOKE = Machine(
    name="smoke",
    size=nano.Size(heads=1, layers=2, ffn=64, z_dim=16),
    superres=nano.Size(heads=2, layers=2, ffn=64, z_dim=16, patch=(1, 2, 2)),
    small=(32, 32),
    film=(32, 48),
    tile=(144, 144),
    latents=4,
    share=32,
    finish=16,
)

# The same stages in hours of one core: enough to compare them. The last four can also follow
# `nano_joint_cpu`.
CPU = Machine(
    name="cpu",
    size=nano.Size(),
    superres=nano.Size(heads=4, layers=4, ffn=768, patch=(1, 2, 2)),
    small=(64, 64),
    film=(80, 128),
    tile=(144, 144),
    latents=7,
    share=16,
)
