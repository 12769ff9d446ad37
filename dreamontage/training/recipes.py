"""Recipes, named for what they train and on what, and chains of them.

Nano is trained in the paper's order: base, adaptive, expression, preference, and apart from them
the decoder's finish and super-resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dreamontage.training import nano, windows
from dreamontage.training.adaptive import Shape, Study, WindowsObjective
from dreamontage.training.decoder import DecoderObjective
from dreamontage.training.preference import PreferenceObjective, Preferences
from dreamontage.training.recipe import Chain, Recipe
from dreamontage.training.superres import SuperresObjective
from dreamontage.training.wan import StoredObjective, WanStudy
from dreamontage.training.wan_preference import WanPreferenceObjective, WanPreferences
from dreamontage.training.worlds import Mixture


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """What the stages of a chain are fitted to. `share` divides batches and what is held out."""

    name: str
    size: nano.Size
    superres: nano.Size
    small: tuple[int, int]  # height and width of the worlds that are learnt first
    film: tuple[int, int]  # of the films
    tile: tuple[int, int]  # of what super-resolution learns
    latents: int
    share: int
    finish: int = 192  # width of the codec's
    options: Mapping[str, Any] = field(default_factory=dict)

    def shape(
        self, weight: float, size: tuple[int, int], batch: int, latents: int = 0, **more: float
    ) -> Shape:
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
        return Study(
            shapes=shapes, held_out=max(2, held_out // self.share), **{"size": self.size} | more
        )

    def recipe(self, stage: str, build: Callable[..., Any], **more: Any) -> Recipe:
        return Recipe(name=f"nano_{stage}_{self.name}", build=build, **{**self.options, **more})


# A size that a GPU trains and two CPU cores can still run.
_H100 = _Machine(
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
        "ahead": 2,
        "checkpoint_minutes": 2.0,
        "sheet_minutes": 1.0,
        "export_minutes": 1.0,  # a machine may be gone the next minute
    },
)
# Every stage in seconds on one core: it shows that the chain runs, and no more.
_SMOKE = _Machine(
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

# The same stages in hours of one core: enough to compare them. Its last four also follow
# `nano_joint_cpu`.
_CPU = _Machine(
    name="cpu",
    size=nano.Size(),
    superres=nano.Size(heads=4, layers=4, ffn=768, patch=(1, 2, 2)),
    small=(64, 64),
    film=(80, 128),
    tile=(144, 144),
    latents=7,
    share=16,
)


def _base(machine: _Machine) -> Recipe:
    """Small worlds from a text and perhaps a first frame, as stock image-to-video weights know
    them. What a keyframe anywhere means, they are never told."""
    latents = min(9, machine.latents)
    study = machine.study(
        machine.shape(1, machine.small, 192, latents), guiding=windows.FIRST_FRAME, held_out=32
    )
    return machine.recipe("base", partial(WindowsObjective, study=study))


def _adaptive(machine: _Machine) -> Recipe:
    """Stills and clips anywhere, encoded alone; in its second half at the films' own size."""
    height, width = machine.film
    study = machine.study(
        machine.shape(2, machine.small, 192, min(9, machine.latents), closes=0.4),
        machine.shape(1, machine.small, 128, closes=0.4),
        machine.shape(4, (height, width), 48, opens=0.4),
        machine.shape(1, (width, height), 48, opens=0.4),
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe("adaptive", build, decay=0.3, warmup=50)


def _control(machine: _Machine, name: str, guiding: windows.Guiding) -> Recipe:
    """From nothing, at the films' own size: a pair of these tells what adaptive training is worth,
    for they differ in what they are told of a window, and in nothing else."""
    height, width = machine.film
    study = machine.study(
        machine.shape(4, (height, width), 48),
        machine.shape(1, (width, height), 48),
        guiding=guiding,
        held_out=8,
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe(name, build, decay=0.4, warmup=50)


def _untuned(machine: _Machine) -> Recipe:
    """A control that is told what stock image-to-video weights are told."""
    return _control(machine, "untuned", windows.FIRST_FRAME)


def _tuned(machine: _Machine) -> Recipe:
    """The other one, told of stills and clips anywhere."""
    return _control(machine, "tuned", windows.ADAPTIVE)


def _further(machine: _Machine) -> Recipe:
    """Adaptive training taken up again, for weights that films have been made with: all of it at
    the films' own size."""
    height, width = machine.film
    study = machine.study(
        machine.shape(4, (height, width), 64), machine.shape(1, (width, height), 64)
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe("further", build, decay=0.3, warmup=200)


def _expression(machine: _Machine) -> Recipe:
    """The five classes of expression alike, whole windows, moves weak and strong."""
    height, width = machine.film
    study = machine.study(
        machine.shape(4, (height, width), 48),
        machine.shape(1, (width, height), 48),
        mixture=Mixture(expressions=(0.2, 0.2, 0.2, 0.2, 0.2), strength=(0.2, 1.8)),
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe("expression", build, learning_rate=3e-4, decay=1.0, warmup=30)


def _decoder(machine: _Machine) -> Recipe:
    """The codec's finish, on films whose last steps the model before it has made anew."""
    latents = min(5, machine.latents)
    study = machine.study(
        machine.shape(1, machine.small, 128, latents),
        machine.shape(2, machine.film, 48, latents),
        held_out=16,
    )
    build = partial(DecoderObjective, study=study, width=machine.finish)
    return machine.recipe(
        "decoder",
        build,
        decay=0.9,
        warmup=10,
        pool=4,
        uses=3,
        muon=False,
        learning_rate=1e-3,
        weight_decay=0.0,
        ema=0.99,
    )


def _preference(machine: _Machine) -> Recipe:
    """DPO against abrupt cuts and for the motion of subjects, one model from both."""
    height, width = machine.film
    study = machine.study(machine.shape(1, (height, width), 48))
    preferences = Preferences(
        shape=machine.shape(1, (height, width), 64),
        pairs=max(8, 400 // machine.share),
        batch=max(2, 24 // machine.share),
        held_out=max(8, 64 // machine.share),
        hold=1.0,  # without it both films of every pair were spoilt, the loser more
    )
    build = partial(PreferenceObjective, study=study, preferences=preferences)
    return machine.recipe(
        "preference",
        build,
        learning_rate=1e-5,
        warmup=10,
        muon=False,
        weight_decay=0.0,
        ema=0.99,
    )


def _superres(machine: _Machine) -> Recipe:
    """Refining an enlarged film, half of the time with the conditions' tokens appended."""
    study = machine.study(
        machine.shape(3, machine.tile, 64, min(9, machine.latents)),
        held_out=16,
        size=machine.superres,
    )
    build = partial(SuperresObjective, study=study)
    return machine.recipe("superres", build, decay=0.3, warmup=100)


def _chain(machine: _Machine) -> Chain:
    """All of nano, from nothing; the last part's export is what films are made with."""
    return Chain(
        name=f"nano_{machine.name}",
        parts=(
            (_base(machine), 0.8),
            (_adaptive(machine), 5.0),
            (_expression(machine), 0.7),
            (_decoder(machine), 0.7),
            (_superres(machine), 1.4),
            (_preference(machine), 0.5),
        ),
        starts={f"nano_preference_{machine.name}": f"nano_decoder_{machine.name}"},
    )


def _longer(machine: _Machine) -> Chain:
    """More training for weights that `_chain` made (`--init`): all stages but base."""
    return Chain(
        name=f"nano_longer_{machine.name}",
        parts=(
            (_further(machine), 6.5),
            (_expression(machine), 1.0),
            (_decoder(machine), 0.7),
            (_superres(machine), 1.5),
            (_preference(machine), 0.5),
        ),
        starts={f"nano_preference_{machine.name}": f"nano_decoder_{machine.name}"},
        continues=True,
    )


def nano_joint_cpu() -> Recipe:
    """Base and adaptive training of a small nano in one stage, on one core, for as long as it may.

    Mostly small, short windows, for they give the most learning in a second; now and then whole
    windows of 13 latents, and the films' own size.
    """
    study = Study(
        shapes=(
            Shape(weight=6, latents=5, height=64, width=64, batch=8, closes=0.3),
            Shape(weight=3, latents=7, height=64, width=64, batch=6),
            Shape(weight=1, latents=7, height=64, width=96, batch=4),
            Shape(weight=1, latents=7, height=96, width=64, batch=4),
            Shape(weight=2, latents=13, height=64, width=64, batch=3),
            Shape(weight=2, latents=13, height=80, width=128, batch=2, opens=0.3),
        ),
        sampling=False,
    )
    build = partial(WindowsObjective, study=study)
    return Recipe(name="nano_joint_cpu", build=build, decay=0.3, ema=0.998)


def _wan(stage: str, study: WanStudy | WanPreferences, **more: Any) -> Recipe:
    """Tuning of Wan on what `curate` made of real videos.

    On eight 80 GB GPUs a LoRA of 14B trains with a copy of the frozen weights in each (bfloat16),
    all weights only sharded (FSDP2: float32 weights, bfloat16 arithmetic).
    """
    options = {
        "device": "cuda",
        "bfloat16": True,
        "muon": False,
        "ema": 0.0,
        "warmup": 500,
        "ahead": 2,
        "checkpoint_minutes": 30,
        "sheet_minutes": 60,
        "export_minutes": 120,
        "seed": 1,
    }
    build: Callable[..., Any]
    if isinstance(study, WanStudy):
        build = partial(StoredObjective, study=study)
    else:
        build = partial(WanPreferenceObjective, preferences=study)
    return Recipe(name=f"wan_{stage}", build=build, **{**options, **more})


_LORA = WanStudy(rank=64)
_TINY: dict[str, Any] = {"device": "cpu", "bfloat16": False, "warmup": 1, "ahead": 0}


def _wan_recipes() -> tuple[Recipe, ...]:
    low = replace(_LORA, expert="transformer_2")
    tiny = WanStudy(rank=0, latents=3, length=16)
    return (
        # The paper: 30,000 steps on 300,000 clips, all weights.
        _wan("14b_adaptive_8xh100", WanStudy(rank=0), fsdp=True, learning_rate=1e-5),
        _wan("14b_adaptive_lora_8xh100", _LORA, learning_rate=1e-4),
        _wan("a14b_low_adaptive_lora_8xh100", low, learning_rate=1e-4),
        # The paper: 15,000 steps on some 1,000 hand-picked videos of up to 20 s.
        _wan("14b_expression_lora_8xh100", _LORA, learning_rate=3e-5, decay=1.0),
        # The paper: 10,000 steps on 1,000 pairs for each of the two kinds.
        _wan("14b_preference_lora_8xh100", WanPreferences(study=_LORA), learning_rate=1e-5),
        # The same code at a size that a test runs.
        _wan("lora_smoke", replace(tiny, rank=4), learning_rate=1e-3, **_TINY),
        _wan(
            "preference_smoke",
            WanPreferences(study=replace(tiny, rank=4)),
            learning_rate=1e-2,
            **_TINY,
        ),
        _wan("full_smoke", tiny, fsdp=True, learning_rate=1e-3, **_TINY),
    )


_STAGES = (
    _base,
    _adaptive,
    _untuned,
    _tuned,
    _further,
    _expression,
    _decoder,
    _preference,
    _superres,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        nano_joint_cpu(),
        *(stage(machine) for machine in (_H100, _CPU, _SMOKE) for stage in _STAGES),
        *_wan_recipes(),
    )
}
"""By name; a name is what `dreamontage train` takes."""

CHAINS: dict[str, Chain] = {
    chain.name: chain
    for machine in (_H100, _CPU, _SMOKE)
    for chain in (_chain(machine), _longer(machine))
}
