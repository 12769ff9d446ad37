"""Who may denoise a segment, and until when: the questions asked of `segments`.

A worker claims a segment for a time-to-live and beats while it works. If it dies, the lease runs
out by the database's clock (the workers' own clocks never matter) and another may claim it.
Every claim raises the row's token, and every write carries its lease's token: a worker that was
only slow, not dead, finds its writes refused as soon as another has claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from db.models import Segment, TakeSegment
from db.questions import Questions
from db.states import SegmentState
from db.takes import reopen_take

# Each question is one statement and one transaction: this is when it was asked.
_NOW = func.now()


class LostLease(RuntimeError):  # noqa: N818 - it says what happened, as in `except LostLease`
    """The segment is no longer this holder's: claimed by another, finished, or given up."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A holder's right to write to a segment, and where to go on from."""

    key: str
    holder: str
    token: int
    expires_at: datetime
    steps: int
    """How many denoise steps the segment takes in all."""
    checkpoint_address: str | None
    """Where a holder before saved its state; none to begin from noise."""
    checkpoint_step: int


@dataclass(frozen=True, kw_only=True)
class SegmentSlot:
    """A segment as one take's plan has it: the window [start, stop), `tail` included."""

    index: int
    key: str
    steps: int
    start: int
    stop: int
    tail: int


class SegmentLeases(Questions):
    """The questions about segments."""

    def set_take_segments(self, take_id: str, slots: Sequence[SegmentSlot]) -> None:
        """Say which segments a take is made of; rows of those that do not exist yet are made.

        Where that is not what was said before (another model, another format of the keys), what
        the take has come to was made of other segments: it is rendering again, its frames, its
        scores and its verdict forgotten.
        """
        assert slots
        # In one order for everybody: two takes that share keys must not wait for each other.
        steps = {slot.key: slot.steps for slot in sorted(slots, key=lambda slot: slot.key)}
        rows = [
            {
                "index": slot.index,
                "key": slot.key,
                "start": slot.start,
                "stop": slot.stop,
                "tail": slot.tail,
            }
            for slot in slots
        ]
        before = (
            select(*(getattr(TakeSegment, name) for name in rows[0]))
            .where(TakeSegment.take_id == take_id)
            .order_by(TakeSegment.index)
        )
        with self._sessions.begin() as session:
            session.execute(
                insert(Segment)
                .values([{"key": key, "steps": count} for key, count in steps.items()])
                .on_conflict_do_nothing()
            )
            if rows == [dict(row) for row in session.execute(before).mappings()]:
                return
            reopen_take(session, take_id)
            session.execute(delete(TakeSegment).where(TakeSegment.take_id == take_id))
            session.execute(
                insert(TakeSegment).values([{"take_id": take_id} | row for row in rows])
            )

    def take_segments(self, take_id: str) -> list[TakeSegment]:
        return self._all(
            select(TakeSegment).where(TakeSegment.take_id == take_id).order_by(TakeSegment.index)
        )

    def segment(self, key: str) -> Segment:
        """Raises LookupError if there is none."""
        return self._get(Segment, key)

    def claim_segment(self, key: str, holder: str, ttl: timedelta) -> Lease | None:
        """Take the segment for `ttl`, if it is not done and nobody's lease on it still runs.

        None means: look at `segment(key)`, which is done, or try again later. Raises LookupError
        if there is no such segment.
        """
        claim = (
            update(Segment)
            .where(
                Segment.key == key,
                Segment.state != SegmentState.DONE,
                or_(Segment.lease_expires_at.is_(None), Segment.lease_expires_at <= _NOW),
            )
            .values(
                state=SegmentState.RUNNING,
                error=None,
                lease_holder=holder,
                lease_token=Segment.lease_token + 1,
                lease_since=_NOW,
                lease_beat_at=_NOW,
                lease_expires_at=_NOW + ttl,
            )
            .returning(Segment)
        )
        with self._sessions.begin() as session:
            claimed = session.scalar(claim)
        if claimed is None:
            self.segment(key)
            return None
        return _lease(claimed)

    def heartbeat(self, lease: Lease, ttl: timedelta) -> Lease:
        """The lease, running for `ttl` from now. Raises LostLease.

        A holder that comes late finds its lease still good if nobody else has claimed since.
        """
        return _lease(self._write(lease, lease_beat_at=_NOW, lease_expires_at=_NOW + ttl))

    def save_checkpoint(self, lease: Lease, address: str, step: int, *, steps_run: int) -> None:
        """Say that the state after `step` steps is in the store at `address`.

        `steps_run` is how many steps this holder has executed since its last checkpoint, or
        since its claim: they are counted, however often the work was begun. Raises LostLease.
        """
        self._write(
            lease,
            checkpoint_address=address,
            checkpoint_step=step,
            denoise_steps_run=Segment.denoise_steps_run + steps_run,
        )

    def finish_segment(self, lease: Lease, latents_address: str, *, steps_run: int) -> None:
        """Say that the finished latents are in the store; the segment is done for everyone.

        Its checkpoint is of no use any more, and named no more: whoever made it may delete it.
        `steps_run` counts as in `save_checkpoint`. Raises LostLease, also the second time.
        """
        self._write(
            lease,
            state=SegmentState.DONE,
            latents_address=latents_address,
            checkpoint_address=None,
            checkpoint_step=0,
            denoise_steps_run=Segment.denoise_steps_run + steps_run,
            **_NO_LEASE,
        )

    def fail_segment(self, lease: Lease, error: str) -> None:
        """Give the segment up and say why; it may be claimed again. Raises LostLease."""
        self._write(lease, state=SegmentState.FAILED, error=error, **_NO_LEASE)

    def release(self, lease: Lease) -> None:
        """Give the segment back for anyone to go on with, checkpoint and all. Raises LostLease."""
        self._write(lease, state=SegmentState.WAITING, **_NO_LEASE)

    def forget_latents(self, key: str, address: str) -> None:
        """Say that a done segment's latents at `address` are lost: it waits, to begin from noise.

        Does nothing if the segment has other latents by now, or none. Steps that were run for
        what is lost stay counted.
        """
        with self._sessions.begin() as session:
            session.execute(
                update(Segment)
                .where(Segment.key == key, Segment.latents_address == address)
                .values(
                    state=SegmentState.WAITING,
                    latents_address=None,
                    checkpoint_address=None,
                    checkpoint_step=0,
                )
            )

    def _write(self, lease: Lease, **values: Any) -> Segment:
        guarded = (
            update(Segment)
            .where(
                Segment.key == lease.key,
                Segment.lease_token == lease.token,
                Segment.state == SegmentState.RUNNING,
            )
            .values(**values)
            .returning(Segment)
        )
        with self._sessions.begin() as session:
            segment = session.scalar(guarded)
        if segment is None:
            raise LostLease(
                f"segment {lease.key} is no longer held by {lease.holder} (token {lease.token})"
            )
        return segment


_NO_LEASE: dict[str, None] = {
    "lease_holder": None,
    "lease_since": None,
    "lease_beat_at": None,
    "lease_expires_at": None,
}


def _lease(segment: Segment) -> Lease:
    assert segment.lease_holder is not None
    assert segment.lease_expires_at is not None
    return Lease(
        key=segment.key,
        holder=segment.lease_holder,
        token=segment.lease_token,
        expires_at=segment.lease_expires_at,
        steps=segment.steps,
        checkpoint_address=segment.checkpoint_address,
        checkpoint_step=segment.checkpoint_step,
    )
