"""Trains the Bradley-Terry head on preference pairs: on files of them, or on synthetic ones.

Synthetic pairs are of both kinds that the paper trains DPO on. A: the best and the worst of four
films of one shot, with cuts of different severity or without a cut. B: one shot without and with a
motion fault. Both films of a pair get the same degradations.

Shapes: N pairs, F features.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dreamontage import media
from dreamontage.models import bundled
from dreamontage.models.codec import LinearCodec
from dreamontage.scorer import Film, Score
from dreamontage.scorer.measures import PIXELS
from dreamontage.scorer.preference import FEATURES, WEIGHTS, PreferenceHead, features
from dreamontage.storyboard.seeds import derive
from dreamontage.training.datasets.pairs import read_pairs
from dreamontage.training.synthetic import cuts, degradations, motion_faults, worlds

FPS = Fraction(16)
GROUP = 4
RIDGE = 0.5
"""Weight of the squared weights in the loss, in pairs: it keeps the weight of a feature finite that
separates all pairs."""


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    source: Literal["A", "B"]
    winner: list[Score]
    loser: list[Score]


def synthetic_pairs(
    seed: int,
    count: int,
    *,
    codec: LinearCodec | None,
    frames: int = 33,
    height: int = 64,
    width: int = 64,
) -> Iterator[ScoredPair]:
    """Pairs of the worlds of `seed`, A and B in turn."""
    for index in range(count):
        here = derive(seed, "pair", index)
        generator = torch.Generator().manual_seed(here)
        clips, _, _ = worlds.clips(here, 2, frames=frames, height=height, width=width)
        own, other = clips[:1], clips[1:]
        source: Literal["A", "B"]
        if index % 2:
            source = "B"
            made = motion_faults.add_motion_fault(
                own,
                other,
                generator=generator,
                levels_B=torch.randint(1, 5, (1,), generator=generator),
            )
            group = [made.clean_BCTHW, made.clips_BCTHW]
        else:
            source = "A"
            levels_G = torch.randperm(cuts.LEVELS, generator=generator)[:GROUP]
            cut = cuts.add_cuts(
                own.expand(GROUP, -1, -1, -1, -1),
                other.expand(GROUP, -1, -1, -1, -1),
                generator=generator,
                levels_B=levels_G,
            )
            order = cut.severities_B.argsort()
            group = [cut.clips_BCTHW[order[:1]], cut.clips_BCTHW[order[-1:]]]
        # The same draws for both: the films of a pair differ in the fault and in nothing else.
        look = [torch.Generator().manual_seed(here) for _ in group]
        seen = [
            degradations.degrade(clip, generator=each, codec=codec)
            for clip, each in zip(group, look, strict=True)
        ]
        winner, loser = (scored(clip_BCTHW[0]) for clip_BCTHW in seen)
        yield ScoredPair(source=source, winner=winner, loser=loser)


def scored(clip_CTHW: Tensor) -> list[Score]:
    """The gate's scores of a clip in [-1, 1] without conditions."""
    frames_THWC = ((clip_CTHW.movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return PIXELS.measure_frames(Film(path=Path("unread"), fps=FPS), frames_THWC.cpu().numpy())


def read_scored(path: Path) -> list[ScoredPair]:
    """The pairs of a file, their films measured. Raises ValueError as `read_pairs` does."""

    def measured(name: str) -> list[Score]:
        film = path.parent / name
        fps = media.probe(film).fps
        if fps is None:
            raise ValueError(f"{film} is no film: pairs that a head learns from must be")
        return PIXELS(Film(path=film, fps=fps))

    return [
        ScoredPair(source=pair.source, winner=measured(pair.winner), loser=measured(pair.loser))
        for pair in read_pairs(path)
    ]


def fit(pairs: Sequence[ScoredPair], *, names: Sequence[str] = FEATURES) -> PreferenceHead:
    """The Bradley-Terry head that makes the pairs most likely; a convex problem, solved by Newton.

    Raises ValueError for no pairs.
    """
    if not pairs:
        raise ValueError("pairs: at least one is needed")
    better_NF, worse_NF = (
        torch.tensor([features(scores, names) for scores in side], dtype=torch.float64)
        for side in ([pair.winner for pair in pairs], [pair.loser for pair in pairs])
    )
    ahead_NF = better_NF - worse_NF
    scale_F = ahead_NF.square().mean(0).sqrt().clamp_min(1e-6)
    x_NF = ahead_NF / scale_F
    weights_F = torch.zeros(len(names), dtype=torch.float64)
    for _ in range(50):
        chance_N = torch.sigmoid(x_NF @ weights_F)
        slope_F = x_NF.T @ (1 - chance_N) - RIDGE * weights_F
        bend_FF = (x_NF.T * (chance_N * (1 - chance_N))) @ x_NF + RIDGE * torch.eye(len(names))
        step_F = torch.linalg.solve(bend_FF, slope_F)
        weights_F = weights_F + step_F
        if step_F.abs().max() < 1e-9:
            break
    return PreferenceHead(weights=dict(zip(names, (weights_F / scale_F).tolist(), strict=True)))


def accuracy(head: PreferenceHead, pairs: Sequence[ScoredPair]) -> float:
    """Share of the pairs whose winner has the higher reward; equal ones count half."""
    ahead = [head.reward(pair.winner) - head.reward(pair.loser) for pair in pairs]
    return sum(0.5 if gap == 0 else float(gap > 0) for gap in ahead) / len(ahead)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", type=Path, help="files of pairs; none: synthetic pairs")
    parser.add_argument(
        "--made", type=int, default=400, help="pairs to make where no file is given"
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--codec", type=Path, default=bundled.weights("nano") / "vae")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.pairs:
        pairs = [pair for path in asked.pairs for pair in read_scored(path)]
    else:
        codec = LinearCodec.from_pretrained(asked.codec)
        pairs = list(synthetic_pairs(derive(0, "preference"), asked.made, codec=codec))
    random.Random(0).shuffle(pairs)
    held_out = pairs[: len(pairs) // 4]
    trial = fit(pairs[len(held_out) :])
    for source in ("A", "B"):
        some = [pair for pair in held_out if pair.source == source]
        if some:
            print(f"{source}: {accuracy(trial, some):.1%} of {len(some)} held-out pairs right")
    head = fit(pairs)
    head.save(asked.out)
    print({name: round(weight, 3) for name, weight in head.weights.items()})


if __name__ == "__main__":
    main()
