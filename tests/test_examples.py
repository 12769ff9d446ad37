"""The examples: they load, their assets are there and can be taken in, and every mode is shown."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dreamontage import media, storyboard
from dreamontage.storyboard import Storyboard, variants

EXAMPLES = Path(__file__).parent.parent / "examples"
ASSETS = EXAMPLES / "assets"
MODES = ["clip-to-clip", "extension", "last-frame", "mixed", "scale-change", "style-change"]
BESIDE_THEM = ["larger", "loop"]


def example(name: str) -> Storyboard:
    return storyboard.load(EXAMPLES / f"{name}.yaml")


def test_there_is_one_storyboard_for_each_mode() -> None:
    assert sorted(p.stem for p in EXAMPLES.glob("*.yaml")) == sorted(
        [*MODES, *BESIDE_THEM, "ad-variants"]
    )
    kinds = {}
    for name in MODES:
        (shot,) = example(name).shots
        kinds[name] = (len(shot.keyframes), len(shot.clips))
    assert kinds == {
        "last-frame": (1, 0),
        "style-change": (3, 0),
        "scale-change": (3, 0),
        "clip-to-clip": (0, 2),
        "extension": (0, 1),
        "mixed": (1, 2),
    }


def test_the_last_frame_example_gives_the_last_frame_and_no_other() -> None:
    board = example("last-frame")
    (shot,) = board.shots
    assert shot.frame_of(shot.keyframes[0], board.fps) == shot.frames(board.fps) - 1


def test_the_extension_is_twenty_seconds_from_one_clip_at_its_start() -> None:
    board = example("extension")
    (shot,) = board.shots
    assert shot.frames(board.fps) / board.fps >= 20
    assert shot.frame_of(shot.clips[0], board.fps) == 0


def test_the_loop_example_is_a_loop() -> None:
    board = example("loop")
    (shot,) = board.shots
    assert shot.loop
    assert shot.frames(board.fps) == 64


@pytest.mark.parametrize("name", [*MODES, *BESIDE_THEM])
def test_every_condition_can_be_ingested(name: str, tmp_path: Path) -> None:
    board = example(name)
    width, height, fps = board.size.width, board.size.height, board.fps
    for shot in board.shots:
        for keyframe in shot.keyframes:
            out = media.ingest_image(
                EXAMPLES / keyframe.image,
                width=width,
                height=height,
                fit=keyframe.fit,
                out=tmp_path / "still.png",
            )
            assert media.read_image(out).std() > 10  # a picture, not a blank
        for clip in shot.clips:
            out = media.ingest_clip(
                EXAMPLES / clip.video,
                width=width,
                height=height,
                fps=fps,
                fit=clip.fit,
                start=clip.in_,
                end=clip.out,
                out=tmp_path / "clip.mkv",
            )
            frames_THWC = np.stack(list(media.read_frames(out)))
            assert shot.frame_of(clip, fps) + len(frames_THWC) <= shot.frames(fps)
            assert np.abs(np.diff(frames_THWC.astype(int), axis=0)).mean() > 0.1  # it moves


def test_the_assets_exercise_what_real_input_does() -> None:
    assert media.probe(ASSETS / "coffee-dive.mp4").vfr
    assert media.probe(ASSETS / "deep-field-drift.mp4").fps == 25
    assert media.probe(ASSETS / "coffee-poster.png").pixel_format == "P"
    sideways = media.probe(ASSETS / "astronaut-badge.jpg")
    assert (sideways.rotation, sideways.width, sideways.height) == (90, 320, 200)


def test_the_examples_stay_small_and_every_asset_is_documented() -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    document = (ASSETS / "README.md").read_text() + (EXAMPLES / "README.md").read_text()
    undocumented = [
        p.name for p in files if p.name != "README.md" and f"`{p.name}`" not in document
    ]
    assert undocumented == []


def test_the_advertisement_has_eight_variants_that_all_hold() -> None:
    data = example("style-change").model_dump(mode="json")
    matrix = variants.load_matrix(EXAMPLES / "ad-variants.yaml")
    boards = variants.apply_all(data, matrix, EXAMPLES)
    assert len({variant.name for variant in matrix}) == len(boards) == 8
    assert {(b.size.width, b.size.height) for b in boards} == {(128, 80), (80, 128)}
    assert {b.shots[0].frames(b.fps) for b in boards} == {64, 80}
    assert len({b.shots[0].keyframes[1].image for b in boards}) == 2


def test_the_assets_can_be_made_again(tmp_path: Path) -> None:
    """Alike rather than the same bytes: another version of an encoder may write others."""
    remade = tmp_path / "remade"
    remade.mkdir()
    subprocess.run([sys.executable, EXAMPLES / "make_assets.py", remade], check=True)
    made = sorted(path.name for path in remade.iterdir())
    assert len(made) == 10
    for name in made:
        old, new = (_pixels(folder / name, tmp_path) for folder in (ASSETS, remade))
        assert old.shape == new.shape
        assert np.abs(old - new).mean() < 2, name


def _pixels(path: Path, folder: Path) -> np.ndarray:
    if path.suffix == ".mp4":
        out = media.ingest_clip(
            path, width=256, height=160, fps=Fraction(16), fit="crop", out=folder / "clip.mkv"
        )
        return np.stack(list(media.read_frames(out))).astype(int)
    out = media.ingest_image(path, width=256, height=160, fit="crop", out=folder / "still.png")
    return media.read_image(out).astype(int)
