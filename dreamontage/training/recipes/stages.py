"""The stages of nano, for any machine, and the chains of them."""

from __future__ import annotations

from functools import partial

from dreamontage.training.datasets import windows
from dreamontage.training.loop.recipe import Chain, Recipe
from dreamontage.training.objectives.adaptive import WindowsObjective
from dreamontage.training.objectives.decoder import DecoderObjective
from dreamontage.training.objectives.preference import PreferenceObjective, Preferences
from dreamontage.training.objectives.superres import SuperresObjective
from dreamontage.training.recipes.machine import Machine
from dreamontage.training.synthetic.worlds import Mixture


def base(machine: Machine) -> Recipe:
    """Small worlds from a text, some with a first frame, as for stock image-to-video weights.

    The model learns nothing of keyframes at other times.
    """
    latents = min(9, machine.latents)
    study = machine.study(
        machine.shape(1, machine.small, 192, latents),
        condition_mix=windows.FIRST_FRAME,
        held_out=32,
    )
    return machine.recipe("base", partial(WindowsObjective, study=study))


def adaptive(machine: Machine) -> Recipe:
    """Stills and clips anywhere, encoded alone; in the second half at the size of the films."""
    height, width = machine.film
    study = machine.study(
        machine.shape(2, machine.small, 192, min(9, machine.latents), closes=0.4),
        machine.shape(1, machine.small, 128, closes=0.4),
        machine.shape(4, (height, width), 48, opens=0.4),
        machine.shape(1, (width, height), 48, opens=0.4),
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe("adaptive", build, decay=0.3, warmup=50)


def _control(machine: Machine, name: str, condition_mix: windows.ConditionMix) -> Recipe:
    """From nothing, at the size of the films.

    A pair of these measures what adaptive training is worth: the two differ in the conditions of a
    window and in nothing else.
    """
    height, width = machine.film
    study = machine.study(
        machine.shape(4, (height, width), 48),
        machine.shape(1, (width, height), 48),
        condition_mix=condition_mix,
        held_out=8,
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe(name, build, decay=0.4, warmup=50)


def untuned(machine: Machine) -> Recipe:
    """The control with the conditions of stock image-to-video weights."""
    return _control(machine, "untuned", windows.FIRST_FRAME)


def tuned(machine: Machine) -> Recipe:
    """The control with stills and clips anywhere."""
    return _control(machine, "tuned", windows.ADAPTIVE)


def further(machine: Machine) -> Recipe:
    """Adaptive training continued, for weights that already make films: all at their size."""
    height, width = machine.film
    study = machine.study(
        machine.shape(4, (height, width), 64), machine.shape(1, (width, height), 64)
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe("further", build, decay=0.3, warmup=200)


def expression(machine: Machine) -> Recipe:
    """The five classes of expression equally often, whole windows, moves weak and strong."""
    height, width = machine.film
    study = machine.study(
        machine.shape(4, (height, width), 48),
        machine.shape(1, (width, height), 48),
        mixture=Mixture(expressions=(0.2, 0.2, 0.2, 0.2, 0.2), strength=(0.2, 1.8)),
    )
    build = partial(WindowsObjective, study=study)
    return machine.recipe("expression", build, learning_rate=3e-4, decay=1.0, warmup=30)


def decoder(machine: Machine) -> Recipe:
    """The codec's finish, on films whose last sampling steps the model made again."""
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


def preference(machine: Machine) -> Recipe:
    """DPO against abrupt cuts and for the motion of subjects: one model from both."""
    height, width = machine.film
    study = machine.study(machine.shape(1, (height, width), 48))
    preferences = Preferences(
        shape=machine.shape(1, (height, width), 64),
        pairs=max(8, 400 // machine.share),
        batch=max(2, 24 // machine.share),
        held_out=max(8, 64 // machine.share),
        hold=1.0,  # without it both films of every pair became worse, the loser more
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


def superres(machine: Machine) -> Recipe:
    """Refining an enlarged film; the conditions' tokens are appended to half of the batches."""
    study = machine.study(
        machine.shape(3, machine.tile, 64, min(9, machine.latents)),
        held_out=16,
        size=machine.superres,
    )
    build = partial(SuperresObjective, study=study)
    return machine.recipe("superres", build, decay=0.3, warmup=100)


def chain(machine: Machine) -> Chain:
    """All of nano, from nothing. Films are made with the export of the last part."""
    return Chain(
        name=f"nano_{machine.name}",
        parts=(
            (base(machine), 0.8),
            (adaptive(machine), 5.0),
            (expression(machine), 0.7),
            (decoder(machine), 0.7),
            (superres(machine), 1.4),
            (preference(machine), 0.5),
        ),
        starts={f"nano_preference_{machine.name}": f"nano_decoder_{machine.name}"},
    )


def longer(machine: Machine) -> Chain:
    """More training for weights that `chain` made (`--init`): all stages but base."""
    return Chain(
        name=f"nano_longer_{machine.name}",
        parts=(
            (further(machine), 6.5),
            (expression(machine), 1.0),
            (decoder(machine), 0.7),
            (superres(machine), 1.5),
            (preference(machine), 0.5),
        ),
        starts={f"nano_preference_{machine.name}": f"nano_decoder_{machine.name}"},
        continues=True,
    )
