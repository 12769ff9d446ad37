"""Leases on segments: which worker may denoise a segment, and until when.

A worker claims a segment for a time-to-live and sends heartbeats while it works. If the worker
dies, the lease expires by the database's clock (the workers' own clocks are never used), and
another worker may claim the segment. Every claim raises the row's token, and every write carries
its lease's token: the writes of a worker that was slow but alive are refused as soon as another
worker has claimed the segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from db.models import Segment, TakeSegment
from db.queries import Queries
from db.states import SegmentState, Stage
from db.takes import reopen_take

# Each query is one statement and one transaction: this is the transaction's start.
_NOW = func.now()


class LostLease(RuntimeError):  # noqa: N818 - reads well in `except LostLease`
    """The segment is no longer this holder's: another claimed it, or it was finished, failed or
    released."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A holder's right to write to a segment, and the checkpoint to resume from."""

    key: str
    holder: str
    token: int
    expires_at: datetime
    steps: int
    """How many denoise steps the segment takes in all."""
    checkpoint_address: str | None
    """Where an earlier holder saved its state; None to start from noise."""
    checkpoint_step: int


@dataclass(frozen=True, kw_only=True)
class SegmentSlot:
    """A segment as one take's plan has it: the window [start, stop), `tail` included. `index`
    counts through the take, one stage after the other."""

    index: int
    key: str
    steps: int
    start: int
    stop: int
    tail: int
    stage: Stage = Stage.BASE


class SegmentLeases(Queries):
    """Queries on segments and on the segments of takes."""

    def set_take_segments(self, take_id: str, slots: Sequence[SegmentSlot]) -> None:
        """Store which segments a take is made of; rows of new segments are inserted.

        Where the plan differs from the stored one (another model, another format of the keys),
        the take's frames were made of other segments: the take is rendering again, and its
        frames, its scores and its verdict are cleared. An equal plan changes nothing.
        """
        assert slots
        # One order for all callers: two takes that share keys must not deadlock.
        steps = {slot.key: slot.steps for slot in sorted(slots, key=lambda slot: slot.key)}
        rows = [
            {
                "index": slot.index,
                "key": slot.key,
                "start": slot.start,
                "stop": slot.stop,
                "tail": slot.tail,
                "stage": slot.stage,
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
        """Claim the segment for `ttl`, if it is not done and no other lease on it is valid.

        None means: `segment(key)` is done, or another holder has it: try again later. Raises
        LookupError if there is no such segment.
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
        """Extend the lease to `ttl` from now and return it. Raises LostLease.

        An expired lease is still valid for its holder if no other has claimed the segment since.
        """
        return _lease(self._write(lease, lease_beat_at=_NOW, lease_expires_at=_NOW + ttl))

    def save_checkpoint(self, lease: Lease, address: str, step: int, *, steps_run: int) -> None:
        """Record that the state after `step` steps is in the store at `address`.

        `steps_run` is how many steps this holder has executed since its last checkpoint, or
        since its claim; all executed steps are counted, repeated ones too. Raises LostLease.
        """
        self._write(
            lease,
            checkpoint_address=address,
            checkpoint_step=step,
            denoise_steps_run=Segment.denoise_steps_run + steps_run,
        )

    def finish_segment(self, lease: Lease, latents_address: str, *, steps_run: int) -> None:
        """Record that the finished latents are in the store; the segment is done for all takes.

        The addresses of its checkpoint and of its enlarged latents are cleared, since nothing
        reads them after this: the holder may delete those objects.
        `steps_run` counts as in `save_checkpoint`. Raises LostLease, also the second time.
        """
        self._write(
            lease,
            state=SegmentState.DONE,
            latents_address=latents_address,
            enlarged_address=None,
            checkpoint_address=None,
            checkpoint_step=0,
            denoise_steps_run=Segment.denoise_steps_run + steps_run,
            **_NO_LEASE,
        )

    def fail_segment(self, lease: Lease, error: str) -> None:
        """End the lease with an error; the segment may be claimed again. Raises LostLease."""
        self._write(lease, state=SegmentState.FAILED, error=error, **_NO_LEASE)

    def release(self, lease: Lease) -> None:
        """End the lease; the next holder resumes from the checkpoint. Raises LostLease."""
        self._write(lease, state=SegmentState.WAITING, **_NO_LEASE)

    def clear_latents(self, key: str, address: str) -> None:
        """Record that a done segment's latents at `address` are lost: it waits, and starts from
        noise.

        Does nothing if the segment has other latents by now, or none. The steps that were run
        for the lost latents stay counted.
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

    def set_enlarged(self, key: str, address: str) -> None:
        """Record that the film of the stage before, in a segment's window, is in the store: the
        segment starts from it. Does nothing if the segment is done.
        """
        with self._sessions.begin() as session:
            session.execute(
                update(Segment)
                .where(Segment.key == key, Segment.state != SegmentState.DONE)
                .values(enlarged_address=address)
            )

    def clear_enlarged(self, key: str, address: str) -> None:
        """Record that the enlarged latents at `address` are lost. Does nothing if the segment has
        others by now, or none.
        """
        with self._sessions.begin() as session:
            session.execute(
                update(Segment)
                .where(Segment.key == key, Segment.enlarged_address == address)
                .values(enlarged_address=None)
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
