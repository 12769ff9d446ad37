"""Is it one shot? Our measure beside PySceneDetect's: ``python -m bench.shots [--films 240]``.

Small synthetic films, half of them one shot: procedural clips and moved photos (without passages
between worlds and changes of style), also at three times
their pace, with a flash, with noise; the others with a hard cut, two, a cut within the same world,
a cut smeared over a latent, a dissolve of a third to a whole second, a longer one, a fade through
black. Each goes through H.264 at CRF 16, 28 or 38, or through our own codec. Told are precision and
recall of finding films of more than one shot.

Shapes: T frames, H W height and width, C colours (RGB, uint8).
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, StatsManager

from dreamontage import media
from dreamontage.media.optical_flow import DenseFlow
from dreamontage.models.codec import LinearCodec
from dreamontage.training.curation import flow
from dreamontage.training.curation.shots import ShotDetector
from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.photos import load_photos

HERE = Path(__file__).parents[1]
WIDTH, HEIGHT, FRAMES, FPS = 160, 96, 49, 16
ONE = ("plain", "plain", "plain", "three times as fast", "a flash", "noise")
MORE = ("hard", "hard", "two cuts", "same world", "smeared", "dissolve", "long dissolve", "black")
ROUTES = ("crf 16", "crf 28", "crf 38", "our codec")
_SAME = 8.0  # mean difference in grey levels below which a cut cannot be seen
_BATCH = 8

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Film:
    kind: str
    route: str
    frames_THWC: Pixels

    @property
    def more(self) -> bool:
        return self.kind in MORE


def films(count: int, seed: int) -> Iterator[Film]:
    """The films, of one shot and of more in turns."""
    photos, rng = load_photos(HERE / "examples" / "assets"), random.Random(seed)
    kinds = {True: 0, False: 0}
    made = 0
    while made < count:
        clips = [
            _worlds(seed * 10_000 + made + offset, photos) for offset in (0, 1_000_000, 2_000_000)
        ]
        for first, second, third in zip(*clips, strict=False):
            more = bool(made % 2)
            table = MORE if more else ONE
            kind = table[kinds[more] % len(table)]
            frames = _film(kind, first, second, third, rng)
            if frames is None:
                continue
            kinds[more] += 1
            made += 1
            yield Film(kind=kind, route=ROUTES[rng.randrange(len(ROUTES))], frames_THWC=frames)
            if made == count:
                return


def _worlds(seed: int, photos: torch.Tensor) -> Pixels:
    """Some long clips, (B, T, H, W, C)."""
    scenes = worlds.sample(
        seed, _BATCH, frames=3 * FRAMES, height=HEIGHT, width=WIDTH, photos_NCHW=photos
    )
    return _bytes(scenes.render()[scenes.unbroken()])


def _bytes(video_BCTHW: torch.Tensor) -> Pixels:
    pixels = (video_BCTHW.permute(0, 2, 3, 4, 1) * 127.5 + 127.5).round().clamp(0, 255)
    return np.asarray(pixels.byte().numpy())


def _film(
    kind: str, first: Pixels, second: Pixels, third: Pixels, rng: random.Random
) -> Pixels | None:
    """A film of this kind; None where its cut could not be seen."""
    start, at = rng.randint(0, FRAMES), rng.randint(4, FRAMES - 4)
    a, b, c = (clip[start : start + FRAMES].copy() for clip in (first, second, third))
    if kind == "three times as fast":
        return first[::3].copy()
    if kind == "a flash":
        length = rng.randint(1, 3)
        brighter = a[at : at + length].astype(int) + rng.randint(50, 140)
        a[at : at + length] = np.clip(brighter, 0, 255)
        return a
    if kind == "noise":
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 8, a.shape)
        return np.clip(a + noise, 0, 255).astype(np.uint8)
    if kind in ("plain", "hard"):
        return a if kind == "plain" else np.concatenate([a[:at], b[at:]])
    if kind == "two cuts":
        at, later = rng.randint(4, 20), rng.randint(26, FRAMES - 4)
        return np.concatenate([a[:at], b[at:later], c[later:]])
    if kind == "same world":
        other = first[-FRAMES:] if start < FRAMES // 2 else first[:FRAMES]
        step = np.abs(a[at - 1].astype(int) - other[at]).mean()
        return np.concatenate([a[:at], other[at:]]) if step >= _SAME else None
    if kind == "black":
        half = rng.randint(3, 8)
        at = rng.randint(half + 2, FRAMES - half - 2)
        light_T = np.clip(np.abs(np.arange(FRAMES) - at) / half, 0, 1)
        shown = np.concatenate([a[:at], b[at:]])
        return np.rint(shown * light_T[:, None, None, None]).astype(np.uint8)
    lengths = {"smeared": (1, 3), "dissolve": (5, 16), "long dissolve": (17, 28)}
    length = rng.randint(*lengths[kind])
    at = rng.randint(3, FRAMES - length - 3)
    share_T = np.clip((np.arange(FRAMES) - at + 1) / (length + 1), 0, 1)[:, None, None, None]
    return np.rint(a * (1 - share_T) + b * share_T).astype(np.uint8)


def encoded(film: Film, codec: LinearCodec, path: Path) -> Path:
    """The film as a file, by its route."""
    frames_THWC, crf = film.frames_THWC, "16"
    if film.route == "our codec":
        video_BCTHW = torch.from_numpy(frames_THWC).permute(3, 0, 1, 2)[None] / 127.5 - 1
        latents = codec.encode(video_BCTHW, return_dict=False)[0].mode()
        frames_THWC = _bytes(codec.decode(latents, return_dict=False)[0])[0]
    else:
        crf = film.route.removeprefix("crf ")
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS))
    out = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf", crf, str(path))
    command = [media.ffmpeg_binary(), "-v", "error", "-y", *raw, "-i", "-", *out]
    subprocess.run(command, input=frames_THWC.tobytes(), check=True)
    return path


def ours(frames: Sequence[Pixels]) -> bool:
    watcher, optical, before = ShotDetector(Fraction(FPS)), DenseFlow(), None
    for index, frame_HWC in enumerate(frames):
        grey_HW = flow.small(frame_HWC)
        flow_HW2 = None if before is None else optical(before, grey_HW)
        watcher.update(index, frame_HWC, grey_HW, flow_HW2)
        before = grey_HW
    return bool(watcher.cuts())


def stock(make: Callable[[], Any]) -> Callable[[Sequence[Pixels]], bool]:
    """One of PySceneDetect's detectors as it comes, fed frame by frame."""

    def found(frames: Sequence[Pixels]) -> bool:
        detector = make()
        detector.stats_manager = StatsManager()
        cuts: list[Any] = []
        for index, frame_HWC in enumerate(frames):
            bgr_HWC = np.ascontiguousarray(frame_HWC[..., ::-1])
            cuts += detector.process_frame(FrameTimecode(index, float(FPS)), bgr_HWC)
        return bool(cuts + detector.post_process(FrameTimecode(len(frames) - 1, float(FPS))))

    return found


def strongest(frames: Sequence[Pixels]) -> float:
    """ContentDetector's largest score within a film: which films it finds at any threshold."""
    detector, stats, largest = ContentDetector(), StatsManager(), 0.0
    detector.stats_manager = stats
    for index, frame_HWC in enumerate(frames):
        time = FrameTimecode(index, float(FPS))
        detector.process_frame(time, np.ascontiguousarray(frame_HWC[..., ::-1]))
        if index:
            largest = max(largest, *stats.get_metrics(time, [ContentDetector.FRAME_SCORE_KEY]))
    return largest


def best(answers: Sequence[tuple[bool, float]]) -> tuple[float, list[tuple[bool, bool]]]:
    """The threshold with the best F1 on these very films, and what it finds."""

    def f1(threshold: float) -> float:
        right = sum(is_so and score >= threshold for is_so, score in answers)
        return 2 * right / sum(is_so + (score >= threshold) for is_so, score in answers)

    threshold = max((score for _, score in answers), key=f1)
    return threshold, [(is_so, score >= threshold) for is_so, score in answers]


DETECTORS: dict[str, Callable[[Sequence[Pixels]], bool]] = {
    "ours": ours,
    "ContentDetector": stock(ContentDetector),
    "AdaptiveDetector": stock(AdaptiveDetector),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.shots", description=__doc__)
    parser.add_argument("--films", type=int, default=240)
    parser.add_argument("--seed", type=int, default=90, help="limits were set on 1 and 2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = LinearCodec.from_pretrained(HERE / "weights" / "nano" / "vae")
    results: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    scores: list[tuple[bool, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for film in films(options.films, options.seed):
            path = encoded(film, codec, Path(folder) / "film.mp4")
            info = media.probe(path)
            frames = list(
                media.stream_clip(
                    path, info, width=WIDTH, height=HEIGHT, fps=Fraction(FPS), fit="crop"
                )
            )
            scores.append((film.more, strongest(frames)))
            for name, detect in DETECTORS.items():
                answer = (film.more, detect(frames))
                for group in ("all", film.kind, film.route):
                    results[name, group].append(answer)
    show(results, options.films)
    threshold, answers = best(scores)
    print(
        f"ContentDetector at the threshold that is best on these very films, {threshold:.1f}: "
        f"{precision_recall(answers)}"
    )


def precision_recall(answers: Sequence[tuple[bool, bool]]) -> str:
    right = sum(is_so and said for is_so, said in answers)
    said = sum(said for _, said in answers)
    more = sum(is_so for is_so, _ in answers)
    return f"{right / max(1, said):.3f} / {right / max(1, more):.3f}"


def show(results: dict[tuple[str, str], list[tuple[bool, bool]]], count: int) -> None:
    """Precision and recall overall and by route, then what share of each kind is dropped."""
    console = Console()
    shown = Table("films", *(f"{name}: precision / recall" for name in DETECTORS))
    for group in ("all", *ROUTES):
        row = []
        for name in DETECTORS:
            row.append(precision_recall(results[name, group]))
        shown.add_row(f"{group} ({len(results['ours', group])})", *row)
    console.print(f"{count} films")
    console.print(shown)
    kinds = Table("kind", *(f"{name}: dropped" for name in DETECTORS))
    for kind in dict.fromkeys((*ONE, *MORE)):
        answers = {name: results[name, kind] for name in DETECTORS}
        kinds.add_row(
            f"{kind} ({len(answers['ours'])})",
            *(f"{sum(said for _, said in each)} of {len(each)}" for each in answers.values()),
        )
    console.print(kinds)


if __name__ == "__main__":
    main()
