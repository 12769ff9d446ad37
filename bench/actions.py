"""Do measured actions change where a clip's do? ``python -m bench.actions [--clips 96]``.

Procedural clips of five seconds, whose actions are known (without passages between worlds and
changes of style): precision and recall of the frames at
which the camera's move changes, to a quarter of a second, and how often the words for an action
name its move. A change of the subject's or the light's alone is no change to this measure, and
counts neither way.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from dreamontage.media.optical_flow import DenseFlow
from dreamontage.training.curation import flow
from dreamontage.training.curation.actions import find_actions
from dreamontage.training.curation.motion import CameraMotionEstimator
from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.captions import FPS, Action

FRAMES, HEIGHT, WIDTH = 81, 96, 160
_NEAR = FPS // 4
# What a picture's global motion shows: a dolly looks like a zoom, an orbit like a pan.
_ALIKE = {
    "plunges in": "zooms in",
    "pulls far back": "zooms out",
    "moves forward": "zooms in",
    "moves back": "zooms out",
    "orbits left": "pans right",
    "orbits right": "pans left",
}


def measured(frames_THWC: NDArray[np.uint8]) -> list[Action]:
    watcher, optical, before = CameraMotionEstimator(Fraction(FPS)), DenseFlow(), None
    for index, frame_HWC in enumerate(frames_THWC):
        grey_HW = flow.small(frame_HWC)
        flow_HW2 = None if before is None else optical(before, grey_HW)
        watcher.update(index, grey_HW, flow_HW2)
        before = grey_HW
    return find_actions(watcher.track(), Fraction(FPS))


def move_of(action: Action) -> str:
    """The words for the camera's move, of a caption of ours or of a measured one."""
    return action.text.removeprefix("the camera ").split(" over ")[0]


def named(true: Action, found: Sequence[Action]) -> bool:
    """Whether what was found over most of an action names one of its moves."""
    overlaps = [min(true.stop, each.stop) - max(true.start, each.start) for each in found]
    words = move_of(found[int(np.argmax(overlaps))]).split(" and ")
    moves = {_ALIKE.get(move, move) for move in move_of(true).split(" and ")}
    return words[0] in moves


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.actions", description=__doc__)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--seed", type=int, default=100, help="limits were set on 5 to 7")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hits = changes = answers = right = actions = 0
    for batch in range(-(-options.clips // 8)):
        scenes = worlds.sample(options.seed + batch, 8, frames=FRAMES, height=HEIGHT, width=WIDTH)
        pixels = (scenes.render().permute(0, 2, 3, 4, 1) * 127.5 + 127.5).round().clamp(0, 255)
        for clip in scenes.unbroken():
            true, frames_THWC = scenes.actions[clip], pixels[clip].byte().numpy()
            found = measured(frames_THWC)
            borders = [after.start for after in found[1:]]
            both = [a.start for b, a in pairwise(true) if move_of(a) != move_of(b)]
            quiet = [a.start for b, a in pairwise(true) if move_of(a) == move_of(b)]
            hits += sum(any(abs(frame - at) <= _NEAR for at in borders) for frame in both)
            changes += len(both)
            answers += sum(all(abs(frame - at) > _NEAR for frame in quiet) for at in borders)
            right += sum(named(action, found) for action in true)
            actions += len(true)
    print(f"changes of the move: precision {hits}/{answers}, recall {hits}/{changes}")
    print(f"actions whose first-named move is theirs: {right}/{actions}")


if __name__ == "__main__":
    main()
