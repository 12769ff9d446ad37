"""The states that rows move through, and what each one allows.

Kept apart from the tables so that code which only compares states need not load SQLAlchemy.
"""

from __future__ import annotations

from enum import StrEnum


class StoryboardState(StrEnum):
    SUBMITTED = "submitted"
    """Stored, nothing done. May start rendering, or fail its ingest."""

    RENDERING = "rendering"
    """A flow works on it. May end in any of the states below; starting again changes nothing."""

    DONE = "done"
    """Every shot passed and the deliverables exist. May be rendered again: finished segments
    are found, not redone."""

    REVIEW = "review"
    """The film exists, but a shot has used all its takes or needs a person's decision.
    A person may accept it (done) or have it rendered again."""

    FAILED = "failed"
    """It could not be finished; `error` holds the reason. May be rendered again."""

    @property
    def next(self) -> frozenset[StoryboardState]:
        """The states that may follow this one, itself among them: every task may run twice."""
        return _STORYBOARD_NEXT[self]


class ShotState(StrEnum):
    PLANNED = "planned"
    """Its conditions are known; no take has begun."""

    RENDERING = "rendering"
    """A take of it is being rendered or judged."""

    DONE = "done"
    """Its current take passed the gate."""

    REVIEW = "review"
    """It has a current take, and the gate's verdict is that a person must decide."""

    FAILED = "failed"
    """Its current take could not be rendered; `error` holds the reason."""

    @property
    def next(self) -> frozenset[ShotState]:
        """The states that may follow this one, itself among them."""
        return _SHOT_NEXT[self]


class TakeState(StrEnum):
    RENDERING = "rendering"
    """Its segments are being denoised or decoded."""

    RENDERED = "rendered"
    """Its mezzanine is in the store. May be scored and judged, any number of times."""


class Stage(StrEnum):
    """The stages of a take, in the order in which they run."""

    COARSE = "coarse"
    """The model, at one frame in some: a film that windows see further in."""

    BASE = "base"
    """The model, at the size that is rendered."""

    UPSCALE = "upscale"
    """The super-resolution model, at the size that is delivered; on its own windows."""

    @property
    def label(self) -> str:
        """What operators call a segment of the stage."""
        return "segment" if self is Stage.BASE else self.value


class SegmentState(StrEnum):
    WAITING = "waiting"
    """Nobody holds it. May be claimed; starts from its checkpoint where there is one."""

    RUNNING = "running"
    """A holder has the lease. May be claimed by another once the lease has run out."""

    DONE = "done"
    """Its latents are in the store. Never claimed again, by any take of any storyboard, unless
    they are lost there."""

    FAILED = "failed"
    """Its last holder failed; `error` holds the reason. May be claimed again, as if waiting."""


class Verdict(StrEnum):
    """The gate's answer for a take. The values are those of the library's scorer."""

    PASS = "pass"
    RETAKE = "retake"
    REVIEW = "review"


class ConditionKind(StrEnum):
    KEYFRAME = "keyframe"
    CLIP = "clip"


class AssetKind(StrEnum):
    IMAGE = "image"
    VIDEO = "video"


class DeliverableKind(StrEnum):
    FILM = "film"
    SHEET = "sheet"
    RECORD = "record"


_STORYBOARD_NEXT = {
    StoryboardState.SUBMITTED: frozenset(
        {StoryboardState.SUBMITTED, StoryboardState.RENDERING, StoryboardState.FAILED}
    ),
    StoryboardState.RENDERING: frozenset(StoryboardState) - {StoryboardState.SUBMITTED},
    StoryboardState.DONE: frozenset({StoryboardState.DONE, StoryboardState.RENDERING}),
    StoryboardState.REVIEW: frozenset(
        {StoryboardState.REVIEW, StoryboardState.DONE, StoryboardState.RENDERING}
    ),
    StoryboardState.FAILED: frozenset({StoryboardState.FAILED, StoryboardState.RENDERING}),
}

_SHOT_NEXT = {
    ShotState.PLANNED: frozenset({ShotState.PLANNED, ShotState.RENDERING, ShotState.FAILED}),
    ShotState.RENDERING: frozenset(ShotState) - {ShotState.PLANNED},
    ShotState.DONE: frozenset({ShotState.DONE, ShotState.RENDERING}),
    ShotState.REVIEW: frozenset({ShotState.REVIEW, ShotState.DONE, ShotState.RENDERING}),
    ShotState.FAILED: frozenset({ShotState.FAILED, ShotState.RENDERING}),
}
