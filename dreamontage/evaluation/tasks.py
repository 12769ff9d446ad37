"""What is asked for: some frames of a true film, its prompt, and the rest to be made.

Shapes: T frames, H W height and width, C = 3 colours (uint8).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dreamontage.evaluation.material import MOVES, HeldOut, Material, Pixels, opposite
from dreamontage.planning.geometry import Geometry
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe, pictures_by_frame
from dreamontage.storyboard.seeds import derive
from dreamontage.timeline import latent_of

FRAMES = 49
"""13 latents: one window of the nano model."""

SEGMENTS = 16
CLIP = 17
"""Frames of a clip condition."""


class Kind(StrEnum):
    FIRST_LAST = "first and last frame"
    FOUR = "four keyframes"
    PROMPT = "first frame and a prompt"
    CHANGED = "first frame and the opposite prompt"
    CLIPS = "clip to clip"
    EXTENSION = "clip extension"
    LONG_FREE = "long, first frame only"
    LONG_KEYED = "long, a keyframe a segment"
    LARGE = "super-resolution"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One film to make. `truth` is one film that would be right, not the only one.

    seed: of the noise; the same for every model that is asked.
    shows: what is printed in tables and on sheets beside the kind.
    """

    kind: Kind
    index: int
    truth: HeldOut
    conditions: tuple[Keyframe | Clip, ...]
    seed: int
    shows: str = ""

    @property
    def frames(self) -> int:
        return len(self.truth.frames_THWC)

    @property
    def prompt(self) -> str:
        return self.truth.prompt()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.truth.frames_THWC.shape[1:3]
        return height, width

    @cached_property
    def pictures(self) -> dict[int, Pixels]:
        """Every frame that is given, in order."""
        found = sorted(pictures_by_frame(self.conditions).items())
        return {frame: np.asarray(picture, np.uint8) for frame, picture in found}

    @cached_property
    def given_T(self) -> NDArray[np.bool_]:  # noqa: N802
        """True on the frames that are given."""
        given_T = np.zeros(self.frames, bool)
        given_T[list(self.pictures)] = True
        return given_T

    @cached_property
    def key(self) -> str:
        """A digest of everything that is asked, and of the film it is measured against."""
        asked = [self.kind, self.prompt, self.seed, list(self.pictures)]
        asked.append([type(each).__name__ for each in self.conditions])
        digest = hashlib.sha256(json.dumps(asked).encode())
        digest.update(np.ascontiguousarray(self.truth.frames_THWC).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to ask. `clips` scales all of it; the rest follows.

    keyframed: films of four keyframes, if more than `clips`. The verdict hangs on these, so what
        lies beyond `clips` is filmed by the final model and its controls alone.
    geometry: the model's windows, which the long tasks are cut by.
    """

    clips: int
    material: Material
    geometry: Geometry
    keyframed: int = 0
    frames: int = FRAMES
    segments: int = SEGMENTS
    moves: Sequence[str] = field(default_factory=lambda: [move.name for move in MOVES])

    @property
    def turns(self) -> int:
        """How often each camera move is asked for."""
        return max(1, self.clips // 16)

    @property
    def long(self) -> int:
        """Long films of each kind."""
        return max(1, self.clips // 16)

    def half(self) -> int:
        return max(1, self.clips // 2)

    def first_last(self) -> list[Task]:
        return [
            self._stills(Kind.FIRST_LAST, index, (0, self.frames - 1))
            for index in range(self.clips)
        ]

    def four(self) -> list[Task]:
        """Four keyframes, in every second pair of clips at even distances, else anywhere."""
        tasks = []
        for index in range(max(self.clips, self.keyframed)):
            last = self.frames - 1
            even = index // 2 % 2 == 0
            places = [round(last * n / 3) for n in range(4)] if even else _anywhere(index, last)
            shows = "evenly spread" if even else "anywhere"
            tasks.append(self._stills(Kind.FOUR, index, places, shows=shows))
        return tasks

    def prompts(self) -> tuple[list[Task], list[Task]]:
        """A first frame and one camera move in words; and the same with the opposite move."""
        kinds = (Kind.PROMPT, Kind.CHANGED)
        asked: tuple[list[Task], list[Task]] = ([], [])
        moves = {move.name: move for move in MOVES}
        for turn in range(self.turns):
            for number, name in enumerate(self.moves):
                index = turn * len(self.moves) + number
                for kind, tasks, move in zip(
                    kinds, asked, (moves[name], opposite(moves[name])), strict=True
                ):
                    truth = self.material.directed(index, move, frames=self.frames)
                    tasks.append(_task(kind, index, truth, (0,), shows=move.name))
        return asked

    def clip_to_clip(self) -> list[Task]:
        last = self.frames - CLIP
        return [self._clips(Kind.CLIPS, index, (0, last)) for index in range(self.half())]

    def extension(self) -> list[Task]:
        return [self._clips(Kind.EXTENSION, index, (0,)) for index in range(self.half())]

    def long_free(self) -> list[Task]:
        return [self._long(Kind.LONG_FREE, index, (0,)) for index in range(self.long)]

    def long_keyed(self) -> list[Task]:
        """A keyframe at the end of every segment, and one at the start."""
        step = self.geometry.window_latents - self.geometry.tail_latents
        first = self.geometry.window_latents - 1
        ends = [4 * (first + n * step) for n in range(self.segments)]
        return [self._long(Kind.LONG_KEYED, index, (0, *ends)) for index in range(self.long)]

    def large(self, *, scale: int = 2, frames: int = 25) -> list[Task]:
        """Three keyframes, at `scale` times the size."""
        larger = Material(
            height=scale * self.material.height,
            width=scale * self.material.width,
            photos_NCHW=self.material.photos_NCHW,
        )
        places = (0, (frames - 1) // 2, frames - 1)
        return [
            _task(Kind.LARGE, index, larger.everyday(index, frames=frames, use="large"), places)
            for index in range(max(1, self.clips // 4))
        ]

    def _stills(self, kind: Kind, index: int, places: Sequence[int], *, shows: str = "") -> Task:
        truth = self.material.everyday(index, frames=self.frames)
        return _task(kind, index, truth, places, shows=shows)

    def _clips(self, kind: Kind, index: int, places: Sequence[int]) -> Task:
        truth = self.material.everyday(index, frames=self.frames, use="clips")
        clips = tuple(
            Clip(frames=list(truth.frames_THWC[at : at + CLIP]), frame=at) for at in places
        )
        return Task(kind=kind, index=index, truth=truth, conditions=clips, seed=_seed(kind, index))

    def _long(self, kind: Kind, index: int, places: Sequence[int]) -> Task:
        window = self.geometry.window_latents
        step = window - self.geometry.tail_latents
        frames = 4 * (window + (self.segments - 1) * step - 1) + 1
        # The camera changes its move midway between two joins: a join's step is the model's own.
        middles = [4 * (window - 1) - 2 * step + 4 * step * n for n in range(self.segments)]
        truth = self.material.journey(index, stops=(*middles, frames))
        return _task(kind, index, truth, places)


def _task(
    kind: Kind, index: int, truth: HeldOut, places: Sequence[int], *, shows: str = ""
) -> Task:
    stills = tuple(Keyframe(image=truth.frames_THWC[at], frame=at) for at in places)
    # One picture and two prompts, one noise: what differs is the prompt's doing.
    noise = Kind.PROMPT if kind is Kind.CHANGED else kind
    return Task(
        kind=kind,
        index=index,
        truth=truth,
        conditions=stills,
        seed=_seed(noise, index),
        shows=shows,
    )


def _seed(kind: Kind, index: int) -> int:
    return derive(0, "evaluation", "noise", kind, index)


def _anywhere(index: int, last: int) -> list[int]:
    """Four frames in no order of distance, each in a latent of its own."""
    rng = random.Random(derive(0, "evaluation", "places", index))
    while True:
        places = sorted(rng.sample(range(last + 1), 4))
        if len({latent_of(place) for place in places}) == 4:
            return places
