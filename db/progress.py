"""The progress of a storyboard as one tree; `status` prints it.

The nodes are frozen and hold detached rows, so they can be read after the session has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import DateTime, Interval, func, select, type_coerce
from sqlalchemy.orm import Session

from db.models import Deliverable, Segment, Shot, Storyboard, Take, TakeSegment
from db.states import SegmentState, Stage


@dataclass(frozen=True, kw_only=True)
class SegmentProgress:
    index: int
    """Its number within its stage, from 0."""
    stage: Stage
    segment: Segment
    lease_age: timedelta | None
    """Time since the holder's last heartbeat, by the database's clock; None without a holder."""
    lease_expired: bool
    """The lease has expired: its holder is dead or stuck, and another may claim the segment."""

    @property
    def step(self) -> int:
        """Denoise steps that will not be repeated."""
        done = self.segment.state is SegmentState.DONE
        return self.segment.steps if done else self.segment.checkpoint_step


@dataclass(frozen=True, kw_only=True)
class TakeProgress:
    take: Take
    segments: tuple[SegmentProgress, ...]


@dataclass(frozen=True, kw_only=True)
class ShotProgress:
    shot: Shot
    take: TakeProgress | None
    """The current take: the latest attempt. None if none has begun."""


@dataclass(frozen=True, kw_only=True)
class StoryboardProgress:
    storyboard: Storyboard
    shots: tuple[ShotProgress, ...]
    deliverables: tuple[Deliverable, ...]

    @property
    def segments(self) -> list[SegmentProgress]:
        """Those of all current takes, in the film's order."""
        return [segment for shot in self.shots if shot.take for segment in shot.take.segments]

    @property
    def step(self) -> int:
        return sum(segment.step for segment in self.segments)

    @property
    def steps(self) -> int:
        """Denoise steps in all, as far as they are planned: a shot with no take has none yet."""
        return sum(segment.segment.steps for segment in self.segments)


def read_progress(session: Session, storyboard: Storyboard) -> StoryboardProgress:
    """Everything about `storyboard`, in five queries whatever its size.

    The session should read from one snapshot, or rows may be of different moments.
    """
    shots = session.scalars(
        select(Shot).where(Shot.storyboard_id == storyboard.id).order_by(Shot.index)
    ).all()
    takes = {
        take.shot_id: take
        for take in session.scalars(
            select(Take)
            .join(Shot, Shot.id == Take.shot_id)
            .where(Shot.storyboard_id == storyboard.id)
            .distinct(Take.shot_id)
            .order_by(Take.shot_id, Take.attempt.desc())
        )
    }
    segments: dict[str, list[SegmentProgress]] = {take.id: [] for take in takes.values()}
    clock = func.clock_timestamp(type_=DateTime(timezone=True))
    for take_id, stage, segment, lease_age, expired in session.execute(
        select(
            TakeSegment.take_id,
            TakeSegment.stage,
            Segment,
            type_coerce(clock - Segment.lease_beat_at, Interval),
            func.coalesce(Segment.lease_expires_at <= clock, False),
        )
        .join(Segment, Segment.key == TakeSegment.key)
        .where(TakeSegment.take_id.in_(segments))
        .order_by(TakeSegment.take_id, TakeSegment.index)
    ).tuples():
        segments[take_id].append(
            SegmentProgress(
                index=sum(each.stage is stage for each in segments[take_id]),
                stage=stage,
                segment=segment,
                lease_age=lease_age,
                lease_expired=expired,
            )
        )
    deliverables = session.scalars(
        select(Deliverable)
        .where(Deliverable.storyboard_id == storyboard.id)
        .order_by(Deliverable.kind)
    )
    return StoryboardProgress(
        storyboard=storyboard,
        shots=tuple(
            ShotProgress(
                shot=shot,
                take=TakeProgress(take=take, segments=tuple(segments[take.id]))
                if (take := takes.get(shot.id))
                else None,
            )
            for shot in shots
        ),
        deliverables=tuple(deliverables),
    )
