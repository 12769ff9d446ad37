"""The record of a film: all that determined it, and how the gate judged it.

`dreamontage render` and the farm write the same model. Its JSON Schema is printed by
`dreamontage schema --record`. `version` rises when a field changes its meaning or goes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from dreamontage.files import write_text
from dreamontage.pipeline import acceleration
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.storyboard import Shot, Storyboard
from dreamontage.storyboard.placement import Placed

VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowRecord(_Part):
    """A segment: its key, and its window [start, stop) on the shot's latents, of which the first
    `tail` are the end of the window before."""

    key: str
    start: int
    stop: int
    tail: int


class ScoreRecord(_Part):
    """A measured number of a take; `frame` is where it is worst, if it has one place."""

    name: str
    value: float
    frame: int | None
    detail: str


class TargetRecord(_Part):
    """A condition's rendition at the size that is delivered: its sha256, and how it was made."""

    rendition: str
    made_by: dict[str, Any]


class ConditionRecord(_Part):
    """A condition by its bytes: sha256 of the asset, and of the rendition that `made_by` made of
    it; in a film that is enlarged also of the one at the target's size."""

    kind: Literal["keyframe", "clip"]
    frame: int
    frames: int
    asset: str
    rendition: str
    made_by: dict[str, Any]
    target: TargetRecord | None = None


class DraftRecord(_Part):
    """A shot's draft; a video by its bytes, as a condition."""

    kind: Literal["auto", "video"]
    strength: float
    asset: str | None = None
    rendition: str | None = None
    made_by: dict[str, Any] | None = None


class ShotRecord(_Part):
    """A shot's take. `take` is its attempt, from 0, and `seed` the take's. Windows of `coarse` are
    on the latents of the coarse film."""

    name: str | None
    frames: int
    loop: bool
    draft: DraftRecord | None
    take: int
    seed: int
    verdict: Literal["pass", "retake", "review"] | None
    reasons: list[str]
    scores: list[ScoreRecord]
    coarse: list[WindowRecord] | None = None
    segments: list[WindowRecord]
    upscaled: list[WindowRecord] | None = None
    conditions: list[ConditionRecord]


class ModelRecord(_Part):
    """A model: its folder's name, the revision in keys, where it computed, and its speed
    options."""

    folder: str
    revision: str
    machine: str
    speed: list[dict[str, Any]]


class UpscaleRecord(_Part):
    """How the film was enlarged: the target's size, the upscaler's settings, the super-resolution
    model and its sampler."""

    model_config = ConfigDict(extra="allow", frozen=True)  # an upscaler's settings, by their names

    size: tuple[int, int]
    scale: float
    model: ModelRecord
    sampler: dict[str, int | float]


class FilmRecord(_Part):
    """The record of a film. `id` and `variant` are a farm's; `label` is "smoke" for weights that
    are too little trained to be shown."""

    version: Literal[1] = VERSION
    film: str
    label: Literal["smoke", "final"]
    title: str
    frames: int
    fps: str
    storyboard: dict[str, Any]
    id: str | None = None
    variant: str | None = None
    model: ModelRecord
    sampler: dict[str, int | float]
    upscale: UpscaleRecord | None = None
    shots: list[ShotRecord]
    made_with: dict[str, str]


def write_record(record: FilmRecord, path: Path) -> Path:
    write_text(path, record.model_dump_json(indent=2) + "\n")
    return path


def record_schema() -> dict[str, Any]:
    """The JSON Schema of records."""
    return FilmRecord.model_json_schema()


def model_record(folder: str, revision: str, machine: str, options: SpeedOptions) -> ModelRecord:
    return ModelRecord(
        folder=folder, revision=revision, machine=machine, speed=acceleration.to_record(options)
    )


def draft_record(
    shot: Shot,
    *,
    asset: str | None = None,
    rendition: str | None = None,
    spec: Mapping[str, Any] | None = None,
) -> DraftRecord | None:
    """A shot's draft; ``asset``, ``rendition`` and ``spec`` are a video's."""
    if shot.draft is None:
        return None
    if shot.animatic is None:
        return DraftRecord(kind="auto", strength=shot.draft_strength)
    return DraftRecord(
        kind="video",
        strength=shot.draft_strength,
        asset=asset,
        rendition=rendition,
        made_by=None if spec is None else dict(spec),
    )


def condition_record(
    placed: Placed,
    *,
    asset: str,
    rendition: str,
    spec: Mapping[str, Any],
    target: tuple[str, Mapping[str, Any]] | None,
) -> ConditionRecord:
    """A condition; ``target`` is the digest and the spec of its rendition at the target's size."""
    return ConditionRecord(
        kind=placed.kind,
        frame=placed.frame,
        frames=placed.frames,
        asset=asset,
        rendition=rendition,
        made_by=dict(spec),
        target=None
        if target is None
        else TargetRecord(rendition=target[0], made_by=dict(target[1])),
    )


class Window(Protocol):
    """A segment's window; see `WindowRecord`."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def tail(self) -> int: ...


class ScoreLike(Protocol):
    """A score, of the gate or as it was stored."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def frame(self) -> int | None: ...
    @property
    def detail(self) -> str: ...


def window_records(keyed: Iterable[tuple[str, Window]]) -> list[WindowRecord]:
    """Segments in order, by their keys."""
    return [
        WindowRecord(key=key, start=window.start, stop=window.stop, tail=window.tail)
        for key, window in keyed
    ]


def score_records(scores: Iterable[ScoreLike]) -> list[ScoreRecord]:
    return [
        ScoreRecord(name=each.name, value=each.value, frame=each.frame, detail=each.detail)
        for each in scores
    ]


def upscale_record(
    board: Storyboard,
    upscaler: Upscaler,
    *,
    model: ModelRecord,
    sampler: Mapping[str, int | float],
) -> UpscaleRecord:
    return UpscaleRecord.model_validate(
        {
            "size": (board.target.width, board.target.height),
            **upscaler.to_json(),
            "model": model,
            "sampler": dict(sampler),
        }
    )


def film_record(
    board: Storyboard,
    *,
    film: str,
    smoke: bool,
    model: ModelRecord,
    sampler: Mapping[str, int | float],
    upscale: UpscaleRecord | None,
    shots: Sequence[ShotRecord],
    storyboard_id: str | None = None,
    variant: str | None = None,
) -> FilmRecord:
    """The record of a film in the file ``film``."""
    return FilmRecord(
        film=film,
        label="smoke" if smoke else "final",
        title=board.title,
        frames=sum(shot.frames for shot in shots),
        fps=str(board.fps),
        storyboard=board.model_dump(mode="json"),
        id=storyboard_id,
        variant=variant,
        model=model,
        sampler=dict(sampler),
        upscale=upscale,
        shots=list(shots),
        made_with=versions(),
    )


def versions() -> dict[str, str]:
    """What computed the film, beside what its storyboard and model say."""
    names = ("dreamontage", "torch", "diffusers", "transformers", "imageio-ffmpeg", "av")
    return {name: metadata.version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
