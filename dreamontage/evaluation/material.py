"""Films that no training has seen: procedural worlds, and photos moved by the worlds' cameras.

A training step's worlds come from `derive(recipe.seed, "step", n)`; these from
`derive(0, "evaluation", ...)`, so no step draws them, whatever its recipe's seed. The photos' own
pictures may be known to the weights (the shipped ones' card says so), their moves are not.

Three kinds: `everyday`, as training draws them; `directed`, one camera move and nothing else that
moves, to ask whether a prompt is obeyed; `journey`, as many acts as a long film has room for.

Shapes: T frames, H W height and width, C = 3 colours (uint8), N pictures, A actions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamontage.models.autoencoder import to_uint8
from dreamontage.storyboard.seeds import derive
from dreamontage.training.synthetic.captions import CAMERA_MOVES, FPS, Action, Move, prompt_for
from dreamontage.training.synthetic.scenes import Scenes
from dreamontage.training.synthetic.worlds import sample

Pixels = NDArray[np.uint8]

DIRECTED_STRENGTH = 1.4
"""Of a directed move: training's own for an action of three seconds, 0.8 to 2.2."""

_PHOTO = "a photo"  # as captions name it
# How far a journey's camera may stray: x, y, log zoom, dolly, roll, orbit.
_LIMITS = (1.6, 1.6, 0.7, 0.5, 0.8, 1.2)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """A true film, and what its prompt says of it."""

    name: str
    frames_THWC: Pixels
    actions: tuple[Action, ...]

    @property
    def photo(self) -> bool:
        """Whether a photo was moved over, and not a procedural world."""
        return _PHOTO in self.actions[0].text

    def prompt(self, first: int = 0, count: int | None = None) -> str:
        """Of frames [first, first + count), times counted from `first`."""
        count = len(self.frames_THWC) - first if count is None else count
        return prompt_for(self.actions, first=first, count=count)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Where films come from. Every second one is a photo's, if there are photos."""

    height: int = 80
    width: int = 128
    photos_NCHW: Tensor | None = None

    def everyday(self, index: int, *, frames: int = 49, use: str = "everyday") -> HeldOut:
        """A film as training draws them: camera, subjects and light, up to three actions."""
        return _film(f"{use} {index}", self._scenes(use, index, frames))

    def directed(self, index: int, move: Move, *, frames: int = 49) -> HeldOut:
        """One camera move over the whole film and no subject. The same index starts from the same
        picture, whatever the move."""
        scenes = self._scenes("directed", index, frames, calm=True)
        acts = [(move, frames, DIRECTED_STRENGTH)]
        return _film(f"{move.name} {index}", _directed(scenes, acts, subject=False))

    def journey(self, index: int, *, stops: Sequence[int]) -> HeldOut:
        """A long film whose camera makes a new move, at an even pace, up to each of these frames.
        Two or three seconds are what training's actions last."""
        rng = random.Random(derive(0, "evaluation", "journey", index, "acts"))
        acts: list[tuple[Move, int, float]] = []
        at = [0.0] * len(_LIMITS)
        for first, stop in pairwise((0, *stops)):
            strength = rng.uniform(0.8, 1.4)
            move = rng.choice(MOVES)
            if _strays(at, move, strength):
                move = opposite(move)
            at = [x + strength * d for x, d in zip(at, move.delta, strict=True)]
            acts.append((move, stop - first, strength))
        # Its worlds are those of a short film: what a world is does not go with its length.
        scenes = replace(self._scenes("journey", index, 49, calm=True), frames=stops[-1])
        return _film(f"journey {index}", _directed(scenes, acts, subject=True))

    def _scenes(self, use: str, index: int, frames: int, *, calm: bool = False) -> Scenes:
        """One scene; of a photo for odd indices, else of a procedural world. A calm one neither
        passes into another world nor changes its style."""
        photos = self.photos_NCHW if index % 2 else None
        for turn in range(1000):
            scenes = sample(
                derive(0, "evaluation", use, index, turn),
                1,
                frames=frames,
                height=self.height,
                width=self.width,
                photos_NCHW=photos,
            )
            changes = scenes.passages is not None or scenes.restyles is not None
            if (photos is None or _PHOTO in scenes.actions[0][0].text) and not (calm and changes):
                return scenes
        raise AssertionError("the worlds no longer show photos")


def _turns(move: Move) -> bool:
    return any(move.delta) and tuple(-d for d in move.delta) in {m.delta for m in CAMERA_MOVES}


MOVES = tuple(move for move in CAMERA_MOVES if _turns(move))
"""The camera's moves that have an opposite: twelve."""


def opposite(move: Move) -> Move:
    """The move that goes the other way."""
    wanted = tuple(-d for d in move.delta)
    (found,) = (each for each in MOVES if each.delta == wanted)
    return found


def _strays(at: Sequence[float], move: Move, strength: float) -> bool:
    return any(
        abs(x + strength * d) > limit and x * d > 0
        for x, d, limit in zip(at, move.delta, _LIMITS, strict=True)
    )


def _directed(scenes: Scenes, acts: Sequence[tuple[Move, int, float]], *, subject: bool) -> Scenes:
    """The scene with these camera moves (move, frames, strength), one after the other, and nothing
    else that moves. Without a subject there is also none to be seen."""
    said = scenes.actions[0][0].text.split(" over ", 1)[1].split(", ")
    over, who = said[0], said[1] if len(said) > 1 and subject else ""
    # The first subject's doing is left out of its name: "a red star jumps" is a red star.
    name = " ".join(who.split()[:3])
    actions, start = [], 0
    for move, count, _ in acts:
        text = f"the camera {move.words} over {over}" + (f", {name} stays" if name else "")
        actions.append(Action(start=start, stop=start + count, text=text))
        start += count
    assert start == scenes.frames
    stops_1A = torch.tensor([[float(action.stop) for action in actions]])
    even = torch.zeros(1, len(acts), dtype=torch.long)  # of the worlds' easings the linear one
    camera_1A6 = torch.tensor([[[s * d for d in move.delta] for move, _, s in acts]])
    assert scenes.passages is None
    subjects = scenes.subjects_BNCHW.clone()
    if not subject:
        subjects[:, :, 3] = 0
    return replace(
        scenes,
        actions=[actions],
        starts_BA=torch.tensor([[float(action.start) for action in actions]]),
        stops_BA=stops_1A,
        easings_BA=even,
        camera_BA6=camera_1A6,
        subject_BA5=torch.zeros(1, len(acts), scenes.subject_BA5.shape[2]),
        light_BA3=torch.zeros(1, len(acts), scenes.light_BA3.shape[2]),
        velocity_BN3=torch.zeros_like(scenes.velocity_BN3),
        subjects_BNCHW=subjects,
    )


def _film(name: str, scenes: Scenes) -> HeldOut:
    frames_THWC = to_uint8(scenes.render())
    return HeldOut(name=name, frames_THWC=frames_THWC, actions=tuple(scenes.actions[0]))


__all__ = ["FPS", "HeldOut", "Material", "Pixels", "opposite"]
