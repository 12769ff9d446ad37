"""Every number about a film, beside the film that was asked for.

Away from the conditions: `quick`'s scores (there is what each is for), structural similarity and
`texture`, the distance of `perception`. At the conditions: `fidelity`. Of the whole: `cuts` and
`cut_strength`, of those that the true film has not (PySceneDetect's, no part of what preferences
are trained on; a world that dives into another may count as one), and `camera`, the agreement of
the camera's way with the true film's.

`pulse`: the steps into latents over those inside them, over the true film's. A codec decodes four
frames at once, and pulses.

For a long film: `seam`, the step at segments' joins over the usual step into a latent nearby (a
join is one, and the codec's pulse is not the join's doing), and `seam_any`, over the usual step of
any kind; `drift`, how far the colours of its end lie from its beginning's, in grey levels; and
`saturation` of the end over the beginning's. Near the conditions: `colour_near` and `flicker_near`,
for Shared-RoPE.

Shapes: T frames, H W height and width, C = 3 colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamontage.evaluation import camera, perception
from dreamontage.evaluation.material import FPS, Pixels
from dreamontage.evaluation.methods import source_revision
from dreamontage.evaluation.tasks import Kind, Task
from dreamontage.scorer import cuts, fidelity, reference
from dreamontage.scorer.film import Film, working
from dreamontage.timeline import TEMPORAL_STRIDE

REVISION = source_revision(
    __file__, *(str(each.__file__) for each in (camera, perception, reference, cuts, fidelity))
)

NEAR = 4
"""Frames from a condition that are near it."""

_LEVELS = 255.0
_SECOND = FPS  # frames; the camera's way is compared second by second
_LEAST = 0.05  # grey levels; no usual step counts as less
_AROUND = 24  # frames on either side of a join whose steps are the usual ones
# The steps into latents that a join's is compared with: not those that fusion may have touched.
_LIKE = (-20, -16, -12, 4, 8, 12)

Scores = dict[str, float]


def measure(made_THWC: Pixels, task: Task, joins: Sequence[int] = ()) -> Scores:
    """Every score that the task has a use for.

    joins: of every segment but the first, the first frame that it alone has made.

    Raises:
        ValueError: for a film of another shape than the task's.
    """
    true_THWC = task.truth.frames_THWC
    if made_THWC.shape != true_THWC.shape:
        raise ValueError(f"the film has the shape {made_THWC.shape}, its task {true_THWC.shape}")
    made, true = _video(made_THWC), _video(true_THWC)
    free_T = ~task.given_T
    given_BT = torch.from_numpy(task.given_T)[None]
    flow, true_P4, true_cuts = _of_truth(task)
    shown = reference.scores(made, true, given_BT=given_BT, truth_flow=flow)
    found = {name: float(value[0]) for name, value in shown.items()}
    made_TCHW, true_TCHW = (_pictures(video)[free_T] for video in (made, true))
    found["ssim"] = float(perception.ssim(made_TCHW, true_TCHW).mean())
    found["texture"] = float(perception.texture_distance(made_TCHW, true_TCHW).mean())
    found["fidelity"] = _fidelity(made_THWC, task)
    own = [
        strength
        for frame, strength in _cuts(made_THWC).items()
        if all(abs(frame - other) > TEMPORAL_STRIDE for other in true_cuts)
    ]
    found |= {"cuts": len(own), "cut_strength": max(own, default=0.0)}
    steps_T = _steps(made_THWC)
    found["pulse"] = _pulse(steps_T) / _pulse(_steps(true_THWC))
    made_P4 = camera.path(made_THWC)
    # Between two given frames the camera's way is the condition's own.
    free_P = free_T[:: camera.PACE][:-1] | free_T[:: camera.PACE][1:]
    second = _SECOND // camera.PACE
    found["camera"] = camera.agreement(made_P4 * free_P[:, None], true_P4 * free_P[:, None], second)
    if task.kind in (Kind.PROMPT, Kind.CHANGED):
        found |= dict(zip(("right", "down", "larger", "turn"), made_P4.sum(0), strict=True))
    if task.kind is Kind.LARGE:
        found |= _near(made, true, task.given_T)
    if joins:
        found |= _long(made_THWC, steps_T, joins)
    return {name: float(value) for name, value in found.items()}


@lru_cache(maxsize=2)
def _of_truth(task: Task) -> tuple[Tensor, NDArray[np.float64], Mapping[int, float]]:
    """The true film's flow, camera's way and cuts: the same for every method's film."""
    true_THWC = task.truth.frames_THWC
    return reference.flow(_video(true_THWC)), camera.path(true_THWC), _cuts(true_THWC)


def _video(frames_THWC: Pixels) -> Tensor:
    """video_BCTHW in [-1, 1]."""
    return torch.from_numpy(frames_THWC).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def _pictures(video_BCTHW: Tensor) -> Tensor:
    """TCHW in [0, 1]."""
    return (video_BCTHW[0].transpose(0, 1) + 1) / 2


def _fidelity(made_THWC: Pixels, task: Task) -> float:
    """Likeness to the conditions, -1..1: of the worst of them; a clip's is its worst frame's."""
    return min(
        fidelity.similarity(working(made_THWC[frame]), working(picture_HWC))
        for frame, picture_HWC in task.pictures.items()
    )


def _cuts(made_THWC: Pixels) -> Mapping[int, float]:
    """The first frame after each cut, and its strength."""
    metric = cuts.CutMetric(Film(path=Path(), fps=Fraction(FPS)))
    for index, frame_HWC in enumerate(made_THWC):
        metric.update(index, working(frame_HWC))
    return metric.cuts()


def _near(made_BCTHW: Tensor, true_BCTHW: Tensor, given_T: NDArray[np.bool_]) -> Scores:
    """Colour shift (grey levels) and flicker (over the true film's) within NEAR of a condition."""
    places = np.flatnonzero(given_T)
    frames = np.arange(len(given_T))
    near_T = (np.abs(frames[:, None] - places[None]).min(1) <= NEAR) & ~given_T
    shift_CT = (made_BCTHW - true_BCTHW)[0].mean((2, 3)) * (_LEVELS / 2)
    # A condition and what is next to it: the frames in the middle of three that hold both.
    middle_T = (np.abs(frames[1:-1, None] - places[None]).min(1) <= NEAR)[None]
    middle_BT = torch.from_numpy(middle_T)
    flickers = [
        float(reference.unsteadiness(video)[middle_BT].mean()) for video in (made_BCTHW, true_BCTHW)
    ]
    return {
        "colour_near": float(shift_CT[:, torch.from_numpy(near_T)].square().mean().sqrt()),
        "flicker_near": flickers[0] / max(flickers[1], reference.STEADY),
    }


def _steps(frames_THWC: Pixels) -> NDArray[np.float64]:
    """How far each frame lies from the one before, in grey levels; 0 for the first."""
    steps = [np.abs(a.astype(np.int16) - b).mean() for a, b in pairwise(frames_THWC)]
    return np.array([0.0, *steps])


def _pulse(steps_T: NDArray[np.float64]) -> float:
    into_T = np.arange(len(steps_T)) % TEMPORAL_STRIDE == 1  # latents' first frames: 1, 5, 9, ...
    inside = steps_T[2:][~into_T[2:]]
    return float(steps_T[into_T].mean()) / max(float(inside.mean()), _LEAST)


def _long(made_THWC: Pixels, steps_T: NDArray[np.float64], joins: Sequence[int]) -> Scores:
    def ratio(join: int, offsets: Iterable[int]) -> float:
        around = [join + each for each in offsets]
        usual = [steps_T[each] for each in around if 0 < each < len(steps_T) and each not in joins]
        return float(steps_T[join] / max(float(np.mean(usual)), _LEAST))

    seams = [ratio(join, _LIKE) for join in joins]
    anywhere = [ratio(join, (n for n in range(-_AROUND, _AROUND + 1) if n)) for join in joins]
    ends = [0, *joins, len(made_THWC)]
    colours = [made_THWC[first:stop].mean((0, 1, 2)) for first, stop in pairwise(ends)]
    vivid = [
        float(np.ptp(made_THWC[first:stop].astype(np.int16), axis=3).mean())
        for first, stop in pairwise(ends)
    ]
    start, end = np.mean(colours[:2], axis=0), np.mean(colours[-2:], axis=0)
    return {
        "seam": float(np.mean(seams)),
        **{f"seam {number}": seam for number, seam in enumerate(seams)},
        "seam_any": float(np.mean(anywhere)),
        "drift": float(np.sqrt(np.mean((end - start) ** 2))),
        "saturation": float(np.mean(vivid[-2:])) / max(float(np.mean(vivid[:2])), 1.0),
    }
