"""Captions of procedural clips, with time stamps as in the paper's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FPS = 16  # nominal rate of the training clips, as of Wan 2.1


@dataclass(frozen=True, kw_only=True)
class Action:
    """A part of a clip, frames [start, stop), with one move of camera and subject each."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Move:
    """A move: its name, its words in a caption, and what it adds to the state when it ends."""

    name: str
    words: str
    delta: tuple[float, ...]


# Camera state: x, y, log zoom, dolly, roll, orbit; x grows to the right and y downward.
CAMERA_MOVES: tuple[Move, ...] = (
    Move(name="hold", words="holds still", delta=(0, 0, 0, 0, 0, 0)),
    Move(name="pan_left", words="pans left", delta=(-0.8, 0, 0, 0, 0, 0)),
    Move(name="pan_right", words="pans right", delta=(0.8, 0, 0, 0, 0, 0)),
    Move(name="tilt_up", words="tilts up", delta=(0, -0.8, 0, 0, 0, 0)),
    Move(name="tilt_down", words="tilts down", delta=(0, 0.8, 0, 0, 0, 0)),
    Move(name="zoom_in", words="zooms in", delta=(0, 0, 0.5, 0, 0, 0)),
    Move(name="zoom_out", words="zooms out", delta=(0, 0, -0.5, 0, 0, 0)),
    Move(name="dolly_in", words="moves forward", delta=(0, 0, 0, 0.4, 0, 0)),
    Move(name="dolly_out", words="moves back", delta=(0, 0, 0, -0.4, 0, 0)),
    Move(name="roll_left", words="rolls left", delta=(0, 0, 0, 0, -0.5, 0)),
    Move(name="roll_right", words="rolls right", delta=(0, 0, 0, 0, 0.5, 0)),
    Move(name="orbit_left", words="orbits left", delta=(0, 0, 0, 0, 0, -1.2)),
    Move(name="orbit_right", words="orbits right", delta=(0, 0, 0, 0, 0, 1.2)),
    Move(name="plunge", words="plunges in", delta=(0, 0, 1.0, 0, 0, 0)),
    Move(name="pull_back", words="pulls far back", delta=(0, 0, -0.9, 0, 0, 0)),
)

# Subject state: x, y, jump, turn, log size.
SUBJECT_MOVES: tuple[Move, ...] = (
    Move(name="rest", words="stays", delta=(0, 0, 0, 0, 0)),
    Move(name="left", words="moves left", delta=(-0.6, 0, 0, 0, 0)),
    Move(name="right", words="moves right", delta=(0.6, 0, 0, 0, 0)),
    Move(name="up", words="rises", delta=(0, -0.5, 0, 0, 0)),
    Move(name="down", words="falls", delta=(0, 0.5, 0, 0, 0)),
    Move(name="jump", words="jumps", delta=(0.2, 0, 0.5, 0, 0)),
    Move(name="spin", words="turns around", delta=(0, 0, 0, 2.5, 0)),
    Move(name="grow", words="grows", delta=(0, 0, 0, 0, 0.5)),
    Move(name="shrink", words="shrinks", delta=(0, 0, 0, 0, -0.5)),
)

# Light: gain per RGB channel at the end of the move.
LIGHT_MOVES: tuple[Move, ...] = (
    Move(name="same", words="", delta=(0, 0, 0)),
    Move(name="dusk", words="it gets dark", delta=(-0.6, -0.5, -0.35)),
    Move(name="dawn", words="it gets bright", delta=(0.3, 0.3, 0.3)),
    Move(name="warm", words="the light turns warm", delta=(0.25, 0, -0.4)),
    Move(name="cold", words="the light turns cold", delta=(-0.4, 0, 0.25)),
)

COLOURS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("red", (0.85, 0.12, 0.10)),
    ("orange", (0.95, 0.55, 0.10)),
    ("yellow", (0.95, 0.88, 0.20)),
    ("green", (0.15, 0.65, 0.20)),
    ("blue", (0.12, 0.25, 0.85)),
    ("purple", (0.50, 0.15, 0.65)),
    ("pink", (0.95, 0.50, 0.70)),
    ("white", (0.95, 0.95, 0.95)),
    ("black", (0.06, 0.06, 0.06)),
    ("brown", (0.45, 0.28, 0.14)),
)
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "blob", "ring")
SURFACES: tuple[str, ...] = (
    "clouds",
    "stripes",
    "a checkerboard",
    "stones",
    "hills",
    "leaves",
    "a photo",
)

# How one world becomes another within a shot, and the caption's words for it.
PASSAGES: tuple[tuple[str, str], ...] = (
    ("slide", "slides to"),
    ("dive", "dives into"),
    ("wipe", "uncovers"),
    ("melt", "melts into"),
)
# How the picture is drawn; the first is unchanged.
STYLES: tuple[str, ...] = ("a photograph", "a drawing", "a poster", "a grey film")


@dataclass(frozen=True, kw_only=True)
class Expression:
    """One of the paper's five classes of visual expression, in miniature **[ours]**.

    `camera` and `subject` name the moves of its sub-classes; empty means all. The others are
    probabilities: that camera or subject rest in an action, that a second camera move is added to
    the first, that the light changes in an action, and that the clip has a change of style or a
    passage to another world.
    """

    name: str
    camera: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    camera_rests: float = 0.15
    subject_rests: float = 0.4
    second: float = 0.2
    light: float = 0.05
    style: float = 0.03
    passage: float = 0.03


EXPRESSIONS: tuple[Expression, ...] = (
    Expression(name="camera shots", camera_rests=0.02, subject_rests=0.6, second=0.35),
    Expression(name="visual effects", light=0.4, style=0.6, camera_rests=0.3),
    Expression(
        name="sport",
        subject=("left", "right", "up", "down", "jump", "spin"),
        camera_rests=0.5,
        subject_rests=0.03,
        second=0.05,
    ),
    Expression(
        name="spatial perception",
        camera=("dolly_in", "dolly_out", "orbit_left", "orbit_right", "plunge", "pull_back"),
        camera_rests=0.03,
    ),
    Expression(name="advanced transitions", passage=0.9, camera_rests=0.35),
)


def word_action(
    *,
    camera: Move,
    second: Move | None,
    surface: str,
    subject: str | None,
    doing: Move,
    light: Move,
    passage: str | None = None,
    style: str | None = None,
) -> str:
    """The sentence for one action: 'the camera pans left over clouds, a red star jumps'.

    `passage`: 'melts into stones', when the world changes; `style`: what the picture turns into.
    """
    words = f"the camera {camera.words}"
    if second is not None:
        words += f" and {second.words}"
    words += f" over {surface}"
    if subject is not None:
        words += f", a {subject} {doing.words}"
    if light.words:
        words += f", {light.words}"
    if passage is not None:
        words += f", it {passage}"
    if style is not None:
        words += f", it turns into {style}"
    return words


def _seconds(frames: int, fps: float) -> str:
    return f"{frames / fps:.2f}".rstrip("0").rstrip(".")


def prompt_for(actions: Sequence[Action], *, first: int, count: int, fps: float = FPS) -> str:
    """The prompt of frames [first, first+count): overlapping spans, in the window's own seconds.

    One action over the whole window gives plain text, as `segments.plan_shot` does for a segment.
    """
    stop = first + count
    inside = [a for a in actions if a.start < stop and a.stop > first]
    if len(inside) == 1:
        return inside[0].text
    return "; ".join(
        f"[{_seconds(max(a.start, first) - first, fps)}, "
        f"{_seconds(min(a.stop, stop) - first, fps)}] {a.text}"
        for a in inside
    )


def vocabulary() -> list[str]:
    """Every word that can be in a caption, for the tokenizer."""
    texts = [move.words for table in (CAMERA_MOVES, SUBJECT_MOVES, LIGHT_MOVES) for move in table]
    texts += [name for name, _ in COLOURS] + list(SHAPES) + list(SURFACES) + list(STYLES)
    texts += [words for _, words in PASSAGES] + ["the camera over it turns into"]
    return sorted({word for text in texts for word in text.split()})
