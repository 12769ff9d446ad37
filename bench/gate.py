"""The gate on held-out films: how many good ones it holds up, and how many faulty ones it lets by.

Films are made at 64 to 256 pixels and of 2 to 8 seconds, with stills of their own as conditions at
their first frame, at a third, and at their last; some are long, of 40 seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreamontage.models import bundled
from dreamontage.models.codec import LinearCodec
from dreamontage.scorer import Film, Mark, Verdict, judge
from dreamontage.scorer.measures import PIXELS, OnePass, flow_metrics
from dreamontage.storyboard.seeds import derive
from dreamontage.training.scorers.comparison import SEED, Pixels, auc, pixels
from dreamontage.training.synthetic import cuts, degradations, motion_faults, worlds
from dreamontage.training.synthetic.photos import load_photos

EXAMPLES = Path(__file__).parents[1] / "examples" / "assets"
FPS = Fraction(16)
SIZES = ((64, 64), (80, 128), (144, 256), (128, 128))
FRAMES = (33, 65, 129, 97)
LONG = 641


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of some films. reasons: by score, how many it held up."""

    name: str
    films: int
    verdicts: Counter[Verdict]
    reasons: Counter[str]


def judged(name: str, films: Iterator[Pixels]) -> Row:
    verdicts: Counter[Verdict] = Counter()
    reasons: Counter[str] = Counter()
    for frames_THWC in films:
        last = len(frames_THWC) - 1
        marks = tuple(
            Mark(frame=at, picture=frames_THWC[at : at + 1]) for at in (0, last // 3, last)
        )
        scores = PIXELS.measure_frames(Film(path=Path("unread"), fps=FPS, marks=marks), frames_THWC)
        judgement = judge(scores, takes_left=1, fps=FPS)
        verdicts[judgement.verdict] += 1
        reasons.update({reason.split(" = ")[0] for reason in judgement.reasons})
    return Row(name=name, films=verdicts.total(), verdicts=verdicts, reasons=reasons)


def clips(seed: int, batch: int, index: int) -> Tensor:
    """Good clips, every second batch with photos among its worlds."""
    height, width = SIZES[index % len(SIZES)]
    return worlds.sample(
        derive(seed, index),
        batch,
        frames=FRAMES[(index // 2) % len(FRAMES)],
        height=height,
        width=width,
        photos_NCHW=load_photos(EXAMPLES) if index % 2 else None,
    ).render()


def good(count: int) -> Iterator[Row]:
    """Good films: as they are, through the codec, as weak models leave them; and long ones."""
    codec = LinearCodec.from_pretrained(bundled.weights("nano") / "vae")
    seed = derive(SEED, "good")

    def films(look: str) -> Iterator[Pixels]:
        for index in range(count // 4):
            made = clips(seed, 4, index)
            generator = torch.Generator().manual_seed(index)
            if look == "codec":
                made = codec.decode(codec.encode(made, False)[0].mean, False)[0]
            elif look == "weak":
                made = degradations.reduce_contrast(made, generator=generator)
                made = degradations.degrade(made, generator=generator, codec=codec, share=1.0)
            yield from (pixels(clip) for clip in made)

    def long_films() -> Iterator[Pixels]:
        for index in range(max(2, count // 16)):
            scenes = worlds.sample(derive(seed, "long", index), 1, frames=LONG, height=64, width=96)
            yield pixels(scenes.render()[0])

    for look in ("clean", "codec", "weak"):
        yield judged(f"good, {look}", films(look))
    yield judged(f"good, {LONG // 16} s", long_films())


def faulty(count: int) -> Iterator[Row]:
    """Films with one fault each, of levels 2 and 4."""
    seed = derive(SEED, "faulty")
    for level in (4, 2):
        levels_B = torch.full((4,), level)

        def cut(kind: cuts.CutKind, levels_B: Tensor = levels_B) -> Iterator[Pixels]:
            for index in range(count // 8):
                made = clips(seed, 4, index)
                generator = torch.Generator().manual_seed(index)
                damaged = cuts.add_cuts(
                    made, made.roll(1, 0), generator=generator, levels_B=levels_B, kinds=[kind]
                )
                yield from (
                    pixels(clip)
                    for clip, found in zip(damaged.clips_BCTHW, damaged.levels_B, strict=True)
                    if found == levels_B[0]
                )

        def add_motion_fault(
            kind: motion_faults.MotionFault, levels_B: Tensor = levels_B
        ) -> Iterator[Pixels]:
            for index in range(count // 8):
                made = clips(seed, 4, index)
                generator = torch.Generator().manual_seed(index)
                moved = motion_faults.add_motion_fault(
                    made, made.roll(1, 0), generator=generator, levels_B=levels_B, kinds=[kind]
                )
                yield from (pixels(clip) for clip in moved.clips_BCTHW)

        for kind in cuts.KINDS:
            yield judged(f"{kind.value}, level {level}", cut(kind))
        for motion in motion_faults.KINDS:
            yield judged(f"{motion.value}, level {level}", add_motion_fault(motion))

    def dissolves() -> Iterator[Pixels]:
        for index in range(count // 8):
            ends = pixels(clips(seed, 4, index)[:, :, 0].movedim(0, 1))
            for first, last in zip(ends, np.roll(ends, 1, 0), strict=True):
                way_T111 = np.linspace(0, 1, 49)[:, None, None, None]
                yield np.rint(first * (1 - way_T111) + last * way_T111).astype(np.uint8)

    yield judged("3 s dissolve between stills", dissolves())


def motion(count: int, *, weak: bool) -> dict[str, float]:
    """AUC of `motion_jolt`, wrong subjects against the same moving right, by fault and level."""
    codec = LinearCodec.from_pretrained(bundled.weights("nano") / "vae")
    measure = OnePass((flow_metrics,))
    rows: list[tuple[str, int, float]] = []
    for index in range(count // 8):
        height, width = SIZES[index % 2]
        made, _, _ = worlds.clips(
            derive(SEED, "motion", index), 8, frames=33, height=height, width=width
        )
        generator = torch.Generator().manual_seed(index)
        levels_B = 1 + torch.randint(4, (8,), generator=generator)
        moved = motion_faults.add_motion_fault(
            made, made.roll(1, 0), generator=generator, levels_B=levels_B
        )
        for clips_BCTHW, wrong in ((moved.clean_BCTHW, False), (moved.clips_BCTHW, True)):
            if weak:
                look = torch.Generator().manual_seed(index)
                clips_BCTHW = degradations.degrade(clips_BCTHW, generator=look, codec=codec)
            for clip, kind, level in zip(clips_BCTHW, moved.kinds, levels_B.tolist(), strict=True):
                scores = measure.measure_frames(Film(path=Path("unread"), fps=FPS), pixels(clip))
                rows.append((kind.value, level if wrong else 0, scores[0].value))
    values_N = np.array([value for _, _, value in rows])
    levels_N = np.array([level for _, level, _ in rows])
    kinds_N = np.array([kind for kind, _, _ in rows])
    out = {"all": auc(values_N, levels_N > 0)}
    for level in range(1, 5):
        some_N = (levels_N == 0) | (levels_N == level)
        out[f"level {level}"] = auc(values_N[some_N], levels_N[some_N] > 0)
    for kind in motion_faults.KINDS:
        some_N = (levels_N == 0) | ((kinds_N == kind.value) & (levels_N > 1))
        out[f"{kind.value}, level 2 to 4"] = auc(values_N[some_N], levels_N[some_N] > 0)
    return out
