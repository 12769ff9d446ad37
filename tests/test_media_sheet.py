"""The contact sheet shows every condition, outlined, in its place."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dreamontage import media
from dreamontage.media import fonts
from dreamontage.media.sheet import choose_frames
from tests.support.media import sha256

RED, AMBER = (255, 59, 48), (255, 176, 0)


def film(path: Path, frames: int, width: int = 128, height: int = 80) -> Path:
    """Bluish frames of rising brightness: nothing in them is red or amber."""
    with media.Encoder(path, width=width, height=height, fps=Fraction(16)) as encoder:
        for n in range(frames):
            level = 40 + 150 * n // frames
            encoder.write(np.full((height, width, 3), (level // 2, level, level), np.uint8))
    return path


def colour_count(sheet: Path, colour: tuple[int, int, int]) -> int:
    with Image.open(sheet) as image:
        return int((np.asarray(image.convert("RGB")) == colour).all(axis=2).sum())


def outlines(sheet: Path) -> int:
    """How many thumbnails are outlined: red corners, found by their shape."""
    with Image.open(sheet) as image:
        red_HW = (np.asarray(image.convert("RGB")) == RED).all(axis=2)
    corner = np.ones((5, 40), bool)  # an outline's upper edge is 5 high; letters are not so wide
    wide = np.lib.stride_tricks.sliding_window_view(red_HW, corner.shape).all(axis=(2, 3))
    # The left end of each upper or lower edge.
    starts = wide & ~np.pad(wide, ((0, 0), (1, 0)))[:, :-1]
    return int(starts.sum()) // 2


def test_keyframes_are_outlined_once_and_clips_all_along(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 64)
    sheet = media.contact_sheet(
        path,
        tmp_path / "a.png",
        marks=[
            media.Mark(frame=16, label="keyframe 1.0 s"),
            media.Mark(frame=32, frames=8, label="clip 2.0-2.5 s"),
        ],
        title="A film",
    )
    chosen = choose_frames(
        64,
        Fraction(16),
        [media.Mark(frame=16, label=""), media.Mark(frame=32, frames=8, label="")],
        8,
    )
    inside = [frame for frame in chosen if frame == 16 or 32 <= frame < 40]
    assert len(inside) >= 3
    assert outlines(sheet) == len(inside)
    assert colour_count(sheet, AMBER) == 0


def test_without_conditions_nothing_is_red_and_the_banner_is_amber(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 20)
    plain = media.contact_sheet(path, tmp_path / "a.png", marks=[], title="A film")
    assert colour_count(plain, RED) == 0
    smoke = media.contact_sheet(
        path, tmp_path / "b.png", marks=[], title="A film", banner="SMOKE: barely trained"
    )
    assert colour_count(smoke, AMBER) > 5000


@given(
    frames=st.integers(1, 700),
    data=st.data(),
    columns=st.integers(1, 10),
)
def test_every_condition_is_on_the_sheet(frames: int, columns: int, data: st.DataObject) -> None:
    starts = data.draw(st.lists(st.integers(0, frames - 1), max_size=60))
    marks = [
        media.Mark(frame=at, frames=data.draw(st.integers(1, frames - at)), label="x")
        for at in starts
    ]
    chosen = choose_frames(frames, Fraction(16), marks, columns)
    assert chosen == sorted(set(chosen))
    assert {0, frames - 1} <= set(chosen) <= set(range(frames))
    assert {m.frame for m in marks} | {m.last for m in marks} <= set(chosen)
    assert len(chosen) % columns == 0 or len(chosen) == frames


def test_frames_stand_evenly_where_nothing_else_is_asked() -> None:
    chosen = choose_frames(320, Fraction(16), [media.Mark(frame=0, frames=40, label="x")], 8)
    assert len(chosen) == 48
    assert np.ptp(np.diff(chosen)) <= 7


@pytest.mark.parametrize(("width", "height"), [(128, 80), (80, 128), (96, 96), (640, 360)])
def test_thumbnails_are_large_enough_to_see_at_any_size(
    width: int, height: int, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.mp4", 16, width, height)
    sheet = media.contact_sheet(path, tmp_path / "a.png", marks=[], title="A film")
    with Image.open(sheet) as image:
        assert image.width >= 8 * 168
        assert image.height < image.width


def test_a_short_film_shows_each_frame_once(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 3)
    sheet = media.contact_sheet(
        path, tmp_path / "a.png", marks=[media.Mark(frame=2, label="keyframe 0.1 s")], title="Short"
    )
    assert outlines(sheet) == 1


def test_a_mark_that_the_film_does_not_reach_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 8)
    with pytest.raises(ValueError, match="'clip' is on frames 6 to 8, the film has frames 0 to 7"):
        media.contact_sheet(
            path,
            tmp_path / "a.png",
            marks=[media.Mark(frame=6, frames=3, label="clip")],
            title="A film",
        )
    assert not (tmp_path / "a.png").exists()


def test_long_texts_and_many_labels_stay_on_the_sheet(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 8)
    marks = [media.Mark(frame=7, label=f"keyframe number {n}") for n in range(3)]
    sheet = media.contact_sheet(
        path, tmp_path / "a.png", marks=marks, title="Long " * 40, banner="Longer " * 30
    )
    with Image.open(sheet) as image:
        margin_HWC = np.asarray(image.convert("RGB"))[:, -8:]
    assert np.unique(margin_HWC.reshape(-1, 3), axis=0).shape == (1, 3)


def test_the_same_film_gives_the_same_sheet(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 20)
    for name in "ab":
        media.contact_sheet(
            path, tmp_path / f"{name}.png", marks=[media.Mark(frame=5, label="x")], title="A film"
        )
    assert sha256(tmp_path / "a.png") == sha256(tmp_path / "b.png")


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has no fonts but Pillow's."""
    empty = tmp_path / "fonts"
    empty.mkdir()
    (empty / "not-a-font.ttf").write_text("")
    monkeypatch.setattr(fonts, "_PLACES", (str(empty),))
    fonts.drawable.cache_clear()
    return empty


def test_letters_without_a_font_are_reported(no_fonts: Path, tmp_path: Path) -> None:
    plain, foreign = fonts.drawable("A walk"), fonts.drawable("A walk 遠足")
    assert (plain.text, plain.missing, plain.font) == ("A walk", False, None)
    assert (foreign.text, foreign.missing, foreign.font) == ("A walk ??", True, None)
    path = film(tmp_path / "a.mp4", 16)
    sheets = [
        media.contact_sheet(path, tmp_path / f"{n}.png", marks=[], title=title)
        for n, title in enumerate(("A walk ??", "A walk 遠足"))
    ]
    assert sha256(sheets[0]) != sha256(sheets[1]), "question marks of the title's own mean nothing"
    said = media.contact_sheet(
        path,
        tmp_path / "said.png",
        marks=[],
        title="A walk ??",
        notes=["? stands for letters that no font here has"],
    )
    assert sha256(said) == sha256(sheets[1])
    fonts.drawable.cache_clear()


def test_letters_that_a_system_font_has_are_drawn_in_it() -> None:
    fonts.drawable.cache_clear()
    found = fonts.drawable("Прогулка у моря")
    if found.missing:
        pytest.skip("no font of this machine has Cyrillic letters")
    assert found.text == "Прогулка у моря"
    assert found.font is not None, "Pillow's own has none"
    shapes = {bytes(found.sized(32).getmask(letter)) for letter in "Прогулка"}
    assert len(shapes) == len(set("Прогулка"))


def test_notes_are_beside_the_films_facts(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 16)
    with_note, without = (
        media.contact_sheet(path, tmp_path / f"{n}.png", marks=[], title="A", notes=notes)
        for n, notes in enumerate((["loops"], []))
    )
    with Image.open(with_note) as one, Image.open(without) as other:
        assert one.size == other.size
        differs_HW = (np.asarray(one) != np.asarray(other)).any(axis=2)
    rows = np.flatnonzero(differs_HW.any(axis=1))
    assert 40 + 84 - 24 < rows[0] <= rows[-1] < 40 + 84 + 24, "on the line of the facts alone"


def test_no_note_of_many_is_cut_off(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 16)
    many = [f"shot-{n}: drafted: animatic.mov, strength 0.5" for n in range(12)]
    marks = [media.Mark(frame=0, label="keyframe 0.0 s")]
    pictures = []
    for n, notes in enumerate(([], many, [*many[:-1], many[-1].replace("0.5", "0.6")])):
        out = tmp_path / f"{n}.png"
        media.contact_sheet(path, out, marks=marks, title="A", notes=[*notes, "x" * 900])
        with Image.open(out) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    none, first, second = pictures
    assert first.shape == second.shape
    assert first.shape[0] > none.shape[0], "they take lines of their own"
    assert (first != second).any(), "the last one too is there to be read"
    margin_HWC = first[:, -8:].reshape(-1, 3)
    assert np.unique(margin_HWC, axis=0).shape == (1, 3), "a note longer than a line is shortened"
