"""Recipes, named for what they train and on what."""

from __future__ import annotations

from collections.abc import Callable

from dreamontage.training.trainer import Recipe, Shape


def nano_base_cpu() -> Recipe:
    """Base and adaptive training of the nano DiT in one stage, on one core, for as long as it may.

    Mostly small, short windows, for they give the most learning in a second; now and then whole
    windows of 13 latents, and the films' own size.
    """
    return Recipe(
        name="nano_base_cpu",
        shapes=(
            Shape(weight=3, latents=5, height=64, width=64, batch=8),
            Shape(weight=3, latents=7, height=64, width=64, batch=6),
            Shape(weight=1, latents=7, height=64, width=96, batch=4),
            Shape(weight=1, latents=7, height=96, width=64, batch=4),
            Shape(weight=2, latents=13, height=64, width=64, batch=3),
            Shape(weight=1, latents=13, height=80, width=128, batch=1),
        ),
    )


def nano_base_h200() -> Recipe:
    """The same model and conditions on one H200, in chunks of as many minutes as one has."""
    return Recipe(
        name="nano_base_h200",
        shapes=(
            Shape(weight=3, latents=9, height=64, width=64, batch=256),
            Shape(weight=2, latents=13, height=64, width=96, batch=128),
            Shape(weight=2, latents=13, height=96, width=64, batch=128),
            Shape(weight=2, latents=13, height=80, width=128, batch=64),
        ),
        device="cuda",
        bfloat16=True,
        ema=0.9995,
        held_out=32,
        checkpoint_minutes=2,
        sheet_minutes=4,
        export_minutes=4,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe for recipe in (nano_base_cpu, nano_base_h200)
}
