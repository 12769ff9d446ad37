"""From a film file to a verdict: what passes, what is tried again, what a person has to see."""

from __future__ import annotations

import ast
import math
import tracemalloc
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dreamontage import scorer
from dreamontage.scorer import (
    DEFAULT_THRESHOLDS,
    MEASURES,
    Better,
    Film,
    Judgement,
    Mark,
    Score,
    Threshold,
    Verdict,
    judge,
    measure,
)
from tests.support.scorer_films import (
    FPS,
    Pixels,
    barely_trained,
    brightened,
    camera,
    dissolve,
    ends,
    held,
    pan,
    still,
    through_codec,
    world,
    write,
)

JOIN = 33


def gate(path: Path, frames_THWC: Pixels, *marks: Mark, takes_left: int = 2) -> Judgement:
    film = Film(path=write(path, frames_THWC), fps=FPS, marks=marks, joins=(JOIN,))
    return judge(measure(film), takes_left=takes_left, fps=FPS)


@pytest.mark.parametrize(("seed", "colour"), [(0, 1.0), (3, 0.3)])
def test_good_takes_pass(tmp_path: Path, seed: int, colour: float) -> None:
    scene = world(seed, colour=colour)
    for shot in (
        camera(scene, 65),
        camera(scene, 65, eased=True),
        camera(scene, 65, start=(0.5, 0.5, 0.8), stop=(0.4, 0.5, 2.5)),
    ):
        marks = (*ends(shot), still(shot[20], 20), Mark(frame=40, frames=9, picture=shot[40:49]))
        for film in (shot, through_codec(shot), barely_trained(shot)):
            assert gate(tmp_path / "take.mkv", film, *marks) == Judgement(
                verdict=Verdict.PASS, reasons=()
            )


def faulty(shot: Pixels, other: Pixels) -> dict[str, tuple[Pixels, str]]:
    """Films of the same two conditions, and the score that must find each one's fault."""
    cut = np.concatenate([shot[:37], other[37:]])
    flash = shot.copy()
    flash[26] = brightened(flash[26:27], 60)[0]
    powerpoint = np.concatenate([held(shot[0], 64), other[-1:]])
    jump = np.concatenate([shot[:JOIN], brightened(shot[JOIN:], 10)])
    return {
        "cut": (cut, "cuts"),
        "flash": (flash, "flicker"),
        "powerpoint": (powerpoint, "freeze"),
        "seam": (jump, "seam"),
        "jump onto the end": (np.concatenate([shot[:-1], other[-1:]]), "cuts"),
        "dissolve": (dissolve(shot[0], other[-1], 65), "dissolve"),
    }


@pytest.mark.parametrize(
    "fault", ["cut", "flash", "powerpoint", "seam", "jump onto the end", "dissolve"]
)
def test_failed_takes_are_retaken_until_review(tmp_path: Path, fault: str) -> None:
    film, finder = faulty(pan(0, 65), pan(50, 65))[fault]
    first = gate(tmp_path / "take.mkv", film, *ends(film), takes_left=1)
    assert first.verdict is Verdict.RETAKE
    assert any(reason.startswith(f"{finder} = ") for reason in first.reasons)
    last = gate(tmp_path / "take.mkv", film, *ends(film), takes_left=0)
    assert last == Judgement(verdict=Verdict.REVIEW, reasons=first.reasons)
    # A codec smears a jump within its last latent; the discriminator has learnt to see it.
    soft = gate(tmp_path / "take.mkv", through_codec(film), *ends(film))
    assert soft.verdict is Verdict.RETAKE


def test_a_take_that_misses_its_keyframe_does_not_pass(tmp_path: Path) -> None:
    shot, other = pan(0, 65), pan(50, 65)
    missed = gate(tmp_path / "take.mkv", shot, still(shot[0], 0), still(other[64], 64))
    assert missed.verdict is Verdict.RETAKE
    (reason,) = missed.reasons
    assert reason.startswith("keyframe_fidelity = 0.")
    assert reason.endswith(" at 4.00 s; at least 0.7")
    ghost = dissolve(shot[64], other[64], 5)[1]
    doubtful = gate(tmp_path / "take.mkv", shot, still(shot[0], 0), still(ghost, 64))
    assert doubtful.verdict is Verdict.REVIEW


def row(name: str, value: float, frame: int | None = None) -> Score:
    return Score(name=name, value=value, unit="", better=Better.LOWER, frame=frame)


LIMITS = (
    Threshold(name="cuts", retake_above=0),
    Threshold(name="fidelity", retake_below=0.5, review_below=0.8),
)


@pytest.mark.parametrize(
    ("cuts", "fidelity", "takes_left", "verdict", "reasons"),
    [
        (0, 0.9, 2, Verdict.PASS, ()),
        (0, 0.8, 0, Verdict.PASS, ()),
        (0, 0.7, 2, Verdict.REVIEW, ("fidelity = 0.7; at least 0.8",)),
        (0, 0.4, 2, Verdict.RETAKE, ("fidelity = 0.4; at least 0.5",)),
        (1, 0.9, 1, Verdict.RETAKE, ("cuts = 1 at 2.31 s; at most 0",)),
        (1, 0.9, 0, Verdict.REVIEW, ("cuts = 1 at 2.31 s; at most 0",)),
        (
            1,
            0.7,
            2,
            Verdict.RETAKE,
            ("cuts = 1 at 2.31 s; at most 0", "fidelity = 0.7; at least 0.8"),
        ),
        (0, math.nan, 2, Verdict.REVIEW, ("fidelity = nan is no measure",)),
        (0, math.inf, 2, Verdict.REVIEW, ("fidelity = inf is no measure",)),
    ],
)
def test_the_rule(
    cuts: int, fidelity: float, takes_left: int, verdict: Verdict, reasons: tuple[str, ...]
) -> None:
    scores = [row("cuts", cuts, 37), row("fidelity", fidelity), row("unlimited", 99.0)]
    judgement = judge(scores, LIMITS, takes_left=takes_left, fps=Fraction(16))
    assert judgement == Judgement(verdict=verdict, reasons=reasons)


def test_what_was_not_measured_is_not_passed() -> None:
    judgement = judge([row("cuts", 0)], LIMITS, takes_left=2, fps=FPS)
    assert judgement == Judgement(verdict=Verdict.REVIEW, reasons=("fidelity was not measured",))
    assert judge([], (), takes_left=0, fps=FPS).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"retake_below": 0.5, "review_above": 0.8},
        {"retake_below": 0.5, "review_below": 0.4},
        {"retake_above": 2.0, "review_above": 3.0},
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="threshold seam: "):
        Threshold(name="seam", **limits)


def test_review_may_be_just_as_strict_as_retake() -> None:
    assert Threshold(name="seam", retake_below=0.5, review_below=0.5).review_below == 0.5


def test_a_negative_number_of_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="takes_left = -1 must be 0 or more"):
        judge([], (), takes_left=-1, fps=FPS)


def test_thresholds_are_data() -> None:
    assert tuple(Threshold(**asdict(each)) for each in DEFAULT_THRESHOLDS) == DEFAULT_THRESHOLDS


def test_every_film_answers_with_the_same_scores_and_every_limit_has_one(tmp_path: Path) -> None:
    plain = measure(Film(path=write(tmp_path / "plain.mkv", pan(0, 3)), fps=FPS))
    shot = pan(0, 65)
    path = write(tmp_path / "full.mkv", shot)
    full = measure(Film(path=path, fps=FPS, marks=ends(shot), joins=(JOIN,)))
    assert [score.name for score in plain] == [score.name for score in full]
    assert {limit.name for limit in DEFAULT_THRESHOLDS} <= {score.name for score in plain}
    assert judge(plain, takes_left=0, fps=FPS).verdict is Verdict.PASS
    by_name = {score.name: score for score in full}
    for limit in DEFAULT_THRESHOLDS:
        lower = by_name[limit.name].better is Better.LOWER
        assert lower is (limit.retake_above is not None or limit.review_above is not None)
        assert by_name[limit.name].unit


@dataclass(frozen=True)
class Lightness:
    """A plug-in, as a trained scorer will be."""

    name: str = "lightness"

    def __call__(self, film: Film) -> list[Score]:
        return [row(self.name, float(np.mean([frame.mean() for frame in film.frames()])))]


def test_a_measure_plugs_in_beside_the_others(tmp_path: Path) -> None:
    film = Film(path=write(tmp_path / "film.mkv", pan(0, 9)), fps=FPS)
    scores = measure(film, (*MEASURES, Lightness()))
    assert scores[-1].value == pytest.approx(pan(0, 9).mean())
    dark = (*DEFAULT_THRESHOLDS, Threshold(name="lightness", review_above=10))
    assert judge(scores, dark, takes_left=2, fps=FPS).verdict is Verdict.REVIEW
    with pytest.raises(ValueError, match="two of them answer with lightness"):
        measure(film, (Lightness(), Lightness()))


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    shot = pan(0, 41)
    peaks = []
    for times in (1, 4):
        film = Film(
            path=write(tmp_path / "film.mkv", np.concatenate([shot, shot[::-1]] * times)),
            fps=FPS,
            marks=(still(shot[0], 0), still(shot[20], 82 * times - 21)),
            joins=(JOIN,),
        )
        measure(film)  # what is only loaded once is loaded now
        tracemalloc.start()
        measure(film)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The 246 frames more would be 7 MB.
    assert peaks[1] < peaks[0] + 1_000_000


def test_the_gate_runs_without_a_video_model() -> None:
    for source in Path(scorer.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"diffusers", "transformers"}
            ours = [name for name in names if name.startswith("dreamontage.models")]
            # Only what finds the folders of shipped weights.
            assert not ours or [alias.name for alias in node.names] == ["bundled"]
