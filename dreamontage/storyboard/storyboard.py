"""The input language: a storyboard of shots, each with prompts and conditions on its timeline.

    title: A walk by the sea
    fps: 16
    size: 128x80
    shots:
      - duration: 10
        prompts: "[0, 5] zoom into the eye; [5, 10] the man walks forward"
        keyframes:
          - {image: assets/eye.jpg, at: 0}
          - {image: assets/man.jpg, frame: 80, fit: pad}
        clips:
          - {video: assets/waves.mp4, at: 7.5, in: 1, out: 3}

Frame rate and size are given once, at the top, and hold for every shot: a film has one of each.
With `upscale: 2` (or 1.5, or 2.25) the film is rendered at `size`, refined by the super-resolution
model and delivered at that many times its size.
Times are seconds, taken as the decimals that they are written as. Paths are relative to the
storyboard's file. The methods below say what a value means on the frame timeline; the types here
say what it may be and, where fields depend on each other, `rules.py` does.
Build a storyboard with `load` or `loads`, which run both and report every fault at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from dreamontage.storyboard import rules, seeds, types, validation, yaml_loader
from dreamontage.storyboard.errors import FieldError, StoryboardError

AUTO: Literal["auto"] = "auto"
DEFAULT_STRENGTH = 0.6
MAX_SEED = 2**seeds.SEED_BITS - 1

__all__ = [
    "Clip",
    "FieldError",
    "Keyframe",
    "PromptSpan",
    "Sampler",
    "Shot",
    "Size",
    "Storyboard",
    "StoryboardError",
    "check_clips",
    "json_schema",
    "load",
    "loads",
    "parse",
    "readable",
]

Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]
FrameIndex = Annotated[int, Field(strict=True, ge=0, lt=types.MAX_FRAMES)]
Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=16)]
Text = Annotated[str, Field(strict=True, max_length=5000), BeforeValidator(types.tidy)]
Name = Annotated[str, Field(strict=True), BeforeValidator(types.read_name), types.NAME_SCHEMA]
AssetPath = Annotated[str, Field(strict=True), BeforeValidator(types.read_path)]
Fit = Literal["crop", "pad"]
Coarse = Literal["auto", "off", 2, 4, 8]

# Pydantic would write a fraction's default as a text.
_ZERO: dict[str, JsonValue] = {"default": 0}
_FEW: dict[str, JsonValue] = {"maxItems": types.MAX_ENTRIES}


class _Part(BaseModel):
    # What is dumped is what can be read again: `in`, not `in_`.
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )


class Size(_Part):
    """The film's picture in pixels; sides are multiples of 16."""

    width: Side
    height: Side

    def times(self, scale: float) -> Size:
        """As a film is enlarged: not validated, since sides need be no multiples of 16 then."""
        # Of a multiple of 16, all scales make whole and even numbers.
        width, height = (round(side * scale) for side in (self.width, self.height))
        return Size.model_construct(width=width, height=height)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


Guidance = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class Sampler(_Part):
    """How the model is sampled; what is left out is the model's own default.

    `guidance`: how far the prompt leads the film, `image_guidance`: how far the keyframes and clips
    do, over how far they would by themselves.
    """

    steps: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    guidance: Guidance | None = None
    image_guidance: Guidance | None = None


class PromptSpan(_Part):
    """What happens from `start` to `end`, in the shot's seconds; no end means the shot's own.

    Spans stand in order and do not overlap. In a gap between them no prompt holds.
    """

    start: Annotated[types.Seconds, Field(json_schema_extra=_ZERO)] = Fraction(0)
    end: types.Seconds | None = None
    text: Annotated[Text, Field(min_length=1)]


class Keyframe(_Part):
    """A still that the shot passes through, at a time or at a frame, exactly one of the two.

    The time at which the shot ends means its last frame.
    """

    image: AssetPath
    at: types.Seconds | None = None
    frame: FrameIndex | None = None
    fit: Fit = "crop"


class Clip(_Part):
    """A video that the shot passes through, from a time or a frame on.

    `in` and `out` are seconds of the video's own. Without `out` the clip goes on until it, or
    the shot, ends.
    """

    video: AssetPath
    at: types.Seconds | None = None
    frame: FrameIndex | None = None
    in_: Annotated[types.Seconds, Field(alias="in", json_schema_extra=_ZERO)] = Fraction(0)
    out: types.Seconds | None = None
    fit: Fit = "crop"


class Shot(_Part):
    """One continuous take: a duration, prompts in time, and conditions anywhere on it.

    One that loops moves on from its last frame to its first. Its length is a multiple of four
    frames: a duration in seconds goes to the nearest.

    With a `draft` the model starts from a film instead of from noise: from a video, an animatic of
    at least the shot's length, or with `auto` from what optical flow makes of the conditions.
    `strength` says how much is made anew: at 1 nearly all.

    A shot whose conditions lie far apart is rendered `coarse` first: at every 2nd, 4th or 8th
    frame, where windows see further, and then refined. `auto` lets the conditions decide.
    """

    name: Name | None = None
    duration: types.Duration
    loop: Annotated[bool, Field(strict=True)] = False
    seed: Seed | None = None
    draft: AssetPath | None = None
    strength: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] | None = None
    # Left out where it is the default: documents from before it keep their digests.
    coarse: Annotated[Coarse, Field(exclude_if=lambda value: value == AUTO)] = AUTO
    prompts: Annotated[
        tuple[PromptSpan, ...],
        Field(json_schema_extra=_FEW),
        BeforeValidator(types.read_prompts),
        types.OrText(),
    ] = ()
    keyframes: Annotated[
        tuple[Keyframe, ...], BeforeValidator(types.read_list), Field(json_schema_extra=_FEW)
    ] = ()
    clips: Annotated[
        tuple[Clip, ...], BeforeValidator(types.read_list), Field(json_schema_extra=_FEW)
    ] = ()

    def frames(self, fps: Fraction) -> int:
        """How many frames the shot has."""
        return rules.shot_frames(self.duration, fps, loop=self.loop)

    @property
    def animatic(self) -> str | None:
        """The path of the video that it is drafted from, if it is."""
        return None if self.draft == AUTO else self.draft

    @property
    def draft_strength(self) -> float:
        """How strongly its draft, if it has one, is noised."""
        return DEFAULT_STRENGTH if self.strength is None else self.strength

    def frame_of(self, condition: Keyframe | Clip, fps: Fraction) -> int:
        """The frame of a condition of this shot; of a clip, its first."""
        frame = rules.condition_frame(condition.at, condition.frame, self.frames(fps), fps)
        assert frame is not None
        return frame


class Storyboard(_Part):
    """Ordered shots, and what holds for all of them."""

    title: Annotated[
        str, Field(strict=True, min_length=1, max_length=200), BeforeValidator(types.tidy)
    ]
    fps: types.FrameRate
    size: Annotated[Size, BeforeValidator(types.read_size), types.OrText(types.SIZE_PATTERN)]
    upscale: types.Scale | None = None
    seed: Seed = 0
    negative_prompt: Text = ""
    sampler: Sampler = Sampler()
    shots: Annotated[
        tuple[Shot, ...],
        BeforeValidator(types.read_list),
        Field(min_length=1, json_schema_extra=_FEW),
    ]

    @property
    def target(self) -> Size:
        """The size in which the film is delivered."""
        return self.size if self.upscale is None else self.size.times(self.upscale)

    def shot_name(self, index: int) -> str:
        """The name a shot goes by: its own, else `shot-1` for the first, and so on."""
        return rules.shot_name(self.shots[index].name, index)

    def shot_seed(self, index: int) -> int:
        """The seed of a shot's first take."""
        return seeds.shot_seed(self.seed, index, self.shots[index].seed)


def load(path: Path) -> Storyboard:
    """Read a storyboard from a YAML or JSON file; asset paths are relative to the file.

    Raises `StoryboardError` with every fault of the file.
    """
    return loads(yaml_loader.read(path), path.parent)


def loads(data: object, base: Path | None) -> Storyboard:
    """The same from parsed data. Assets are looked for under `base`; None leaves that out,
    for a storyboard whose assets were taken in before. A storyboard's own
    `model_dump(mode="json")` reads back as an equal one.
    """
    board, errors = parse(data, base)
    if board is None or errors:
        raise StoryboardError(errors)
    return board


def parse(data: object, base: Path | None) -> tuple[Storyboard | None, list[FieldError]]:
    """A storyboard and what is wrong with it; None when the types alone forbid it."""
    board, errors = None, []
    try:
        board = Storyboard.model_validate(data)
    except ValidationError as error:
        errors = validation.field_errors(error, Storyboard)
    if isinstance(data, Mapping):
        # Rules between fields hold for whatever could be read, though other parts could not be.
        errors += rules.check(readable(data), base)
    return board, sorted(errors, key=FieldError.sort_key)


def readable(board: Storyboard | Mapping[Any, Any]) -> validation.Readable:
    """The fields that are right by themselves, of a storyboard or of the data of one."""
    data = board.model_dump() if isinstance(board, Storyboard) else board
    return validation.readable(Storyboard, data)


def check_clips(
    board: Storyboard | Mapping[Any, Any], seconds: Mapping[tuple[int, int], Fraction]
) -> list[FieldError]:
    """What is wrong with clips once their files are known; `seconds[shot, clip]` is a length.

    `in` and `out` may not lie past the file's end, nor the clip reach into another condition. Data
    that is no storyboard yet is checked for its other errors, too.
    """
    return rules.check(readable(board), None, seconds)


def json_schema() -> dict[str, Any]:
    """The input language as JSON Schema, for editors; it holds the types, not every rule."""
    document = Storyboard.model_json_schema(by_alias=True)
    for part in ("Keyframe", "Clip"):
        document["$defs"][part]["oneOf"] = [
            {"required": ["at"], "properties": {"at": {"type": "number"}}},
            {"required": ["frame"], "properties": {"frame": {"type": "integer"}}},
        ]
    return {"$schema": "https://json-validation.org/draft/2020-12/schema", **document}
