"""The cut discriminator beside PySceneDetect's detectors, on the same held-out clips.

Every measure gives a clip one number. For the detectors it is their largest frame score, so that no
threshold has to be chosen. Where levels are needed, the thresholds are those that are best *on
these very clips*, which favours the detectors. The discriminator also gives levels by itself: they
have a row of their own, beside a row with best thresholds like all others'.

Controls: the same network untrained, and the greatest step between thumbnails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detectors import AdaptiveDetector
from scipy import stats
from torch import Tensor

from dreamontage.models import bundled
from dreamontage.models.codec import LinearCodec
from dreamontage.scorer import Film
from dreamontage.scorer.cuts import CutMetric
from dreamontage.scorer.discriminator import LEVELS, CutDiscriminator, load
from dreamontage.scorer.film import working
from dreamontage.storyboard.seeds import derive
from dreamontage.training.scorers.discriminator import HELD_OUT_SURFACE, LabelledClips, draw
from dreamontage.training.synthetic import cuts

SEED = derive(0, "held out")  # no training step's seed derives from it

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

OURS = "discriminator"
LEAST_CONTENT = (0.0, 5.0, 10.0, 15.0)
"""Of the AdaptiveDetector's second threshold, `min_content_val`; the best one has the row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Results of a measure on a set of clips. interval: of the AUC, 95 %, by bootstrap. severe: the
    AUC of levels 3 and 4 alone, which the detectors were made for."""

    name: str
    auc: float
    interval: tuple[float, float]
    severe: float
    found: float
    levels: float
    spearman: float


def held_out(
    name: str, clips: int, *, batch: int = 16, photos_NCHW: Tensor | None = None
) -> Iterator[LabelledClips]:
    """Batches of a held-out set, of at least ``clips`` clips in all.

    Args:
        name: "seeds", "surface" or "photos".
        photos_NCHW: pictures for the worlds of "photos", which needs them.
    """
    assert (photos_NCHW is not None) == (name == "photos")
    codec = LinearCodec.from_pretrained(bundled.weights("nano") / "vae")
    takes: dict[str, Callable[[str], bool]] = {
        "seeds": lambda prompt: HELD_OUT_SURFACE not in prompt,
        "surface": lambda prompt: HELD_OUT_SURFACE in prompt,
        "photos": lambda prompt: "a photo" in prompt,
    }
    sizes = ((64, 64), (48, 80), (128, 128))
    step = made = 0
    while made < clips:
        height, width = sizes[step % len(sizes)]
        labelled = draw(
            derive(SEED, name, step),
            batch if name == "seeds" else 3 * batch,
            frames=(33, 49)[step % 2],
            height=height,
            width=width,
            codec=codec,
            surfaces=takes[name],
            photos_NCHW=photos_NCHW,
        )
        step += 1
        made += len(labelled)
        yield labelled


def pixels(clip_CTHW: Tensor) -> Pixels:
    """frames_THWC as a film's file has them."""
    frames_THWC = ((clip_CTHW.movedim(0, -1) + 1) * 127.5).round().clamp(0, 255)
    return frames_THWC.to(torch.uint8).cpu().numpy()


class _Tap(StatsManager):  # type: ignore[misc]
    """Stores a detector's metrics by frame."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, dict[str, float]] = {}

    def set_metrics(self, timecode: FrameTimecode, metric_kv_dict: dict[str, float]) -> None:
        self.of.setdefault(timecode.frame_num, {}).update(metric_kv_dict)


def rivals(frames_THWC: Pixels) -> dict[str, float]:
    """Scores of a film by PySceneDetect's detectors, the gate's `cut_strength` and a control."""
    tap = _Tap()
    detector = AdaptiveDetector(window_width=2)
    detector.stats_manager = tap
    film = Film(path=Path("unread"), fps=Fraction(16))
    watcher = CutMetric(film)
    for index, frame_HWC in enumerate(frames_THWC):
        detector.process_frame(
            FrameTimecode(index, 16.0), cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
        )
        watcher.update(index, working(frame_HWC))
    content = {frame: values.get("content_val", 0.0) for frame, values in tap.of.items()}
    ratio = {frame: values.get("adaptive_ratio (w=2)", 0.0) for frame, values in tap.of.items()}
    small = np.stack([cv2.resize(f, (16, 16), interpolation=cv2.INTER_AREA) for f in frames_THWC])
    steps_T = np.sqrt(np.square(np.diff(small.astype(np.float64), axis=0)).mean((1, 2, 3)))
    return {
        "ContentDetector": max(content.values()),
        **{
            f"AdaptiveDetector, content {least:g}": max(
                (ratio[frame] for frame in ratio if content[frame] >= least), default=0.0
            )
            for least in LEAST_CONTENT
        },
        "cut_strength": {score.name: score.value for score in watcher.compute()}["cut_strength"],
        "greatest step (control)": float(steps_T.max()),
    }


def rate(
    labelled: LabelledClips, models: Mapping[str, CutDiscriminator]
) -> tuple[dict[str, list[float]], list[int]]:
    """Every measure's numbers for the clips, and the discriminator's own levels."""
    scores: dict[str, list[float]] = {}
    own: list[int] = []
    clips_BCTHW = labelled.clips_BCTHW
    for name, model in models.items():
        rating = model.rate(clips_BCTHW)
        scores[name] = rating.severity_B.tolist()
        if name == OURS:
            own = rating.levels_BL.argmax(1).tolist()
    for clip_CTHW in clips_BCTHW:
        for name, value in rivals(pixels(clip_CTHW)).items():
            scores.setdefault(name, []).append(value)
    return scores, own


def auc(scores_N: Floats, positive_N: NDArray[np.bool_]) -> float:
    """Chance that a faulty clip scores above a good one; ties count half.

    Mann and Whitney's U over the number of pairs: `scipy.stats.mannwhitneyu`.
    """
    good, bad = scores_N[~positive_N], scores_N[positive_N]
    pairs_above = stats.mannwhitneyu(bad, good, method="asymptotic").statistic
    return float(pairs_above / (len(good) * len(bad)))


def auc_interval(scores_N: Floats, positive_N: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % of resamplings of the clips have their AUC within it: `scipy.stats.bootstrap`."""
    low, high = stats.bootstrap(
        (np.arange(len(scores_N)),),
        lambda chosen_N: auc(scores_N[chosen_N], positive_N[chosen_N]),
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(low), float(high)


def best_accuracy(scores_N: Floats, levels_N: NDArray[np.int64], levels: int) -> float:
    """Of the levels that the best `levels` - 1 thresholds on the scores give."""
    best = np.zeros(levels)
    for value in np.unique(scores_N):
        here = np.bincount(levels_N[scores_N == value], minlength=levels)
        best = np.maximum.accumulate(best) + here
    return float(best.max() / len(scores_N))


def rows(batches: Iterator[LabelledClips], models: Mapping[str, CutDiscriminator]) -> list[Row]:
    """A row for every measure, the best first; of the AdaptiveDetector only the best."""
    scores: dict[str, list[float]] = {}
    levels: list[int] = []
    severities: list[float] = []
    own: list[int] = []
    for labelled in batches:
        levels += labelled.levels_B.tolist()
        severities += labelled.severities_B.tolist()
        found, mine = rate(labelled, models)
        own += mine
        for name, values in found.items():
            scores.setdefault(name, []).extend(values)
    levels_N, severities_N = np.array(levels), np.array(severities)
    positive_N = levels_N > 0
    apart_N = (levels_N == 0) | (levels_N > 2)

    def row(name: str, values_N: Floats, accuracy: float | None = None) -> Row:
        return Row(
            name=name,
            auc=auc(values_N, positive_N),
            interval=auc_interval(values_N, positive_N),
            severe=auc(values_N[apart_N], positive_N[apart_N]),
            found=best_accuracy(values_N, positive_N.astype(np.int64), 2),
            levels=best_accuracy(values_N, levels_N, LEVELS) if accuracy is None else accuracy,
            spearman=float(stats.spearmanr(values_N, severities_N).statistic),
        )

    made = [row(name, np.array(values)) for name, values in scores.items()]
    if own:
        agree = float((np.array(own) == levels_N).mean())
        made.append(row(f"{OURS}, its own levels", np.array(scores[OURS]), agree))
    adaptive = [each for each in made if each.name.startswith("AdaptiveDetector")]
    best = max(adaptive, key=lambda each: each.auc)
    chosen = [each for each in made if each is best or each not in adaptive]
    return sorted(chosen, key=lambda each: -each.auc)


def networks() -> dict[str, CutDiscriminator]:
    torch.manual_seed(0)
    return {OURS: load(), "untrained (control)": CutDiscriminator().eval()}


def kinds(clips: int = 240) -> dict[cuts.CutKind, tuple[int, float, float]]:
    """By kind of fault: clips, AUC against clips without one, mean error of the level."""
    model = load()
    levels: list[int] = []
    names: list[cuts.CutKind] = []
    rated: list[float] = []
    for labelled in held_out("seeds", clips):
        levels += labelled.levels_B.tolist()
        names += labelled.kinds
        rated += model.rate(labelled.clips_BCTHW).severity_B.tolist()
    levels_N, rated_N, names_N = np.array(levels), np.array(rated), np.array(names)
    good_N = names_N == cuts.CutKind.NONE
    out: dict[cuts.CutKind, tuple[int, float, float]] = {}
    for kind in cuts.KINDS:
        mine_N = (names_N == kind) & (levels_N > 0)
        if mine_N.any():
            either_N = mine_N | good_N
            off = float(np.abs(rated_N - levels_N)[mine_N].mean())
            out[kind] = (int(mine_N.sum()), auc(rated_N[either_N], mine_N[either_N]), off)
    return out
