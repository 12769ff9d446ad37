"""All measurements of a video, in one pass over its frames, without a verdict.

The frames are those that a model would be trained on: the video's first `longest` seconds, upright,
at the training's frame rate. The scores, which every readable video has:

    cuts          ends of shots (`shots`)
    likeness      cosine of the first and the last frame's embeddings (`likeness`)
    quality       technical quality, or another judge's score (`quality`)
    shake, motion strength of the camera's jitter and of the motion (`motion`)
    pose          how clear the pose of people is, by a hook; missing without a hook

This project has no pose model. A hook for one takes a picture. It returns None if there are no
people in it, else a number from 0 (all hidden) to 1.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from dreamontage import media
from dreamontage.digests import file_digest
from dreamontage.media.optical_flow import DenseFlow
from dreamontage.timeline import frame_at
from dreamontage.training.curation import flow, quality
from dreamontage.training.curation.actions import find_actions
from dreamontage.training.curation.flow import Pixels
from dreamontage.training.curation.likeness import Embedder, Layout, likeness
from dreamontage.training.curation.motion import CameraMotionEstimator
from dreamontage.training.curation.shots import ShotDetector
from dreamontage.training.synthetic.captions import Action

FORMAT = 1
"""Increase it when the measurement of an unchanged video changes."""

WORKING_SIDE = 384
"""Pixels of the longer side at which frames are read."""

Pose = Callable[[Pixels], float | None]

_RIBBON = 8  # the longer side over the shorter one, at most
_PICTURES = 5  # sampled frames for measures that need few of them
_STRIP, _STRIP_HEIGHT = 6, 72  # pictures in a report, and their height


def _name_of(hook: object) -> str:
    """A hook's name: its own, else where it was defined."""
    name = getattr(hook, "name", None)
    where = (
        f"{getattr(hook, '__module__', '')}:{getattr(hook, '__qualname__', type(hook).__name__)}"
    )
    return str(name or where)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The measures, and their settings.

    side: the longer side in pixels that the model is trained at; sharpness is measured there.
    judge: a measure of quality in place of `quality.marks`. pose: the hook for people.
    """

    fps: Fraction = Fraction(16)
    longest: float = 120.0
    side: int = 832
    embed: Embedder = field(default_factory=Layout)
    judge: quality.Judge | None = None
    pose: Pose | None = None

    def facts(self) -> dict[str, str | int | float | None]:
        """What determines the numbers besides the video: equal facts give equal measurements."""
        return {
            "format": FORMAT,
            "fps": str(self.fps),
            "longest": self.longest,
            "side": self.side,
            "embed": self.embed.name,
            "judge": None if self.judge is None else _name_of(self.judge),
            "pose": None if self.pose is None else _name_of(self.pose),
        }


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The measurements of one video. `fault`: why it cannot be used; the rest is then empty.

    frames: how many were read, at the training's rate. seconds: of the whole video. details: an
    explanation of a score, for people. strip: a row of its pictures, JPEG.
    """

    digest: str
    fault: str | None = None
    frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    strip: bytes = field(default=b"", repr=False)

    def to_json(self) -> dict[str, Any]:
        """All but the strip."""
        data = asdict(self)
        del data["strip"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], strip: bytes = b"") -> Self:
        actions = tuple(Action(**action) for action in data["actions"])
        return cls(**{**data, "actions": actions, "strip": strip})


def measure(path: Path, measures: Measures) -> Measurement:
    """Measure a video. Nothing is raised: the result has a `fault` if the file cannot be used."""
    digest = ""
    try:
        digest = file_digest(path)
        return _measure(path, digest, measures)
    except Exception as error:  # decoders of hostile bytes raise errors of all kinds
        message = " ".join(str(error).replace(f"{path}: ", "").split()) or type(error).__name__
        return Measurement(digest=digest, fault=message)


def _measure(path: Path, digest: str, measures: Measures) -> Measurement:
    info = media.probe(path)
    if info.kind is not media.MediaKind.VIDEO:
        raise ValueError("is a still picture")
    assert info.duration is not None
    assert info.fps is not None
    if max(info.width, info.height) > _RIBBON * min(info.width, info.height):
        raise ValueError(f"is {info.width}x{info.height}: too narrow to be a film")
    scale = min(1.0, WORKING_SIDE / max(info.width, info.height))
    width, height = (max(8, round(side * scale)) for side in (info.width, info.height))
    end = measures.longest if info.duration > measures.longest else None
    count = frame_at(info.duration if end is None else end, measures.fps)
    wanted = {round(place) for place in np.linspace(0, max(0, count - 1), _STRIP)}
    shots, motion = ShotDetector(measures.fps), CameraMotionEstimator(measures.fps)
    dense_flow = DenseFlow()
    before_HW: Pixels | None = None
    pictures: list[Pixels] = []
    frame_HWC = None
    index = -1
    stream = media.stream_clip(
        path, info, width=width, height=height, fps=measures.fps, fit="crop", end=end
    )
    for index, frame_HWC in enumerate(stream):
        grey_HW = flow.small(frame_HWC)
        flow_HW2 = None if before_HW is None else dense_flow(before_HW, grey_HW)
        shots.update(index, frame_HWC, grey_HW, flow_HW2)
        motion.update(index, grey_HW, flow_HW2)
        before_HW = grey_HW
        if index in wanted:
            pictures.append(frame_HWC)
    if frame_HWC is None:
        raise ValueError("holds no video frame")
    cuts = shots.cuts()
    scores = {
        "cuts": float(len(cuts)),
        "likeness": likeness(measures.embed, pictures[0], frame_HWC),
        "shake": motion.shake(),
        "motion": motion.strength(),
    }
    details = {
        "cuts": "; ".join(f"{cut.kind} at {float(cut.frame / measures.fps):.2f} s" for cut in cuts)
    }
    samples = media.sample_pictures(path, info, _PICTURES) or [pictures[0]]
    if measures.judge is None:
        marks = quality.marks(samples, side=measures.side)
        scores["quality"], details["quality"] = marks.score, marks.worst()
    else:
        scores["quality"] = float(np.mean([measures.judge(picture) for picture in samples]))
    if measures.pose is not None:
        poses = [pose for picture in samples if (pose := measures.pose(picture)) is not None]
        if poses:
            scores["pose"] = float(np.mean(poses))
    return Measurement(
        digest=digest,
        frames=index + 1,
        seconds=float(info.duration),
        fps=float(info.fps),
        width=info.width,
        height=info.height,
        scores={name: round(value, 6) for name, value in scores.items()},
        details=details,
        actions=tuple(find_actions(motion.track(), measures.fps)),
        strip=_strip(pictures),
    )


def _strip(pictures: list[Pixels]) -> bytes:
    height, width = pictures[0].shape[:2]
    size = (min(4 * _STRIP_HEIGHT, max(1, round(width * _STRIP_HEIGHT / height))), _STRIP_HEIGHT)
    row = Image.new("RGB", (size[0] * len(pictures), size[1]))
    for place, picture_HWC in enumerate(pictures):
        small = Image.fromarray(picture_HWC).resize(size, Image.Resampling.BOX)
        row.paste(small, (place * size[0], 0))
    data = io.BytesIO()
    row.save(data, "JPEG", quality=85)
    return data.getvalue()
