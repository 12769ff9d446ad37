"""Queries on takes, prompt embeddings, scores, and the gate's thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import ids
from db.models import Embedding, Score, Take, TakeSegment, Threshold
from db.queries import Queries
from db.states import TakeState, Verdict


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One measured value of a take; `frame` is its worst frame, if it has one."""

    name: str
    value: float
    frame: int | None = None
    detail: str = ""


class StaleTake(RuntimeError):  # noqa: N818 - reads well in `except StaleTake`
    """The take has changed since the caller read it: another plan, or other frames."""


class TakeQueries(Queries):
    def start_take(self, shot_id: str, attempt: int, seed: int) -> Take:
        """Insert a take, or return the one that exists, in whatever state it is.

        Raises ValueError if it exists with another seed.
        """
        take_id = ids.take_id(shot_id, attempt)
        with self._sessions.begin() as session:
            session.execute(
                insert(Take)
                .values(id=take_id, shot_id=shot_id, attempt=attempt, seed=seed)
                .on_conflict_do_nothing()
            )
            take = session.get_one(Take, take_id)
        if take.seed != seed:
            raise ValueError(f"take {take_id} has seed {take.seed}: it cannot start with {seed}")
        return take

    def take(self, take_id: str) -> Take:
        return self._get(Take, take_id)

    def takes(self, shot_id: str) -> list[Take]:
        """All attempts at a shot, in order; the last one is the current."""
        with self._sessions() as session:
            return list(
                session.scalars(select(Take).where(Take.shot_id == shot_id).order_by(Take.attempt))
            )

    def finish_take(
        self, take_id: str, mezzanine_address: str, *, segment_keys: Sequence[str]
    ) -> Take:
        """Record that its frames, decoded from the segments with these keys, are in the store.

        Raises `StaleTake` if the take has another plan by now: a slow worker that decoded the
        old plan must not store its frames in place of the new plan's.
        """
        with self._sessions.begin() as session:
            take = _locked(session, take_id)
            keys = session.scalars(
                select(TakeSegment.key)
                .where(TakeSegment.take_id == take_id)
                .order_by(TakeSegment.index)
            ).all()
            if list(keys) != list(segment_keys):
                raise StaleTake(f"take {take_id} is made of other segments by now: decode it again")
            take.state, take.mezzanine_address = TakeState.RENDERED, mezzanine_address
        return take

    def clear_mezzanine(self, take_id: str, address: str) -> None:
        """Record that the frames at `address` are lost: the take must be decoded and judged again.

        Does nothing if the take has other frames by now, or none.
        """
        with self._sessions.begin() as session:
            reopen_take(session, take_id, Take.mezzanine_address == address)

    def scores(self, take_id: str) -> list[Score]:
        return self._all(select(Score).where(Score.take_id == take_id).order_by(Score.index))

    def judge_take(
        self,
        take_id: str,
        verdict: Verdict,
        reasons: Sequence[str],
        scores: Sequence[ScoreRow],
        *,
        mezzanine_address: str,
    ) -> Take:
        """Store the gate's verdict and scores, in place of earlier ones.

        `mezzanine_address` is that of the judged frames. Raises `StaleTake` if the take has others
        by now, or none.
        """
        with self._sessions.begin() as session:
            take = _locked(session, take_id)
            if take.mezzanine_address != mezzanine_address:
                raise StaleTake(f"take {take_id} has not the frames that were judged: judge again")
            take.verdict, take.reasons = verdict, list(reasons)
            session.execute(delete(Score).where(Score.take_id == take_id))
            session.add_all(
                Score(
                    take_id=take_id,
                    index=index,
                    name=score.name,
                    value=score.value,
                    frame=score.frame,
                    detail=score.detail,
                )
                for index, score in enumerate(scores)
            )
        return take

    def embedding(self, key: str) -> str | None:
        """The address of a prompt's embedding; None if it is not stored."""
        with self._sessions() as session:
            row = session.get(Embedding, key)
        return None if row is None else row.address

    def add_embedding(self, key: str, address: str) -> None:
        """Record that a prompt's embedding is in the store; the first address stays."""
        with self._sessions.begin() as session:
            session.execute(
                insert(Embedding).values(key=key, address=address).on_conflict_do_nothing()
            )

    def add_threshold(
        self,
        name: str,
        *,
        retake_below: float | None = None,
        retake_above: float | None = None,
        review_below: float | None = None,
        review_above: float | None = None,
    ) -> None:
        """Insert a threshold; an existing one of that name keeps its limits."""
        with self._sessions.begin() as session:
            session.execute(
                insert(Threshold)
                .values(
                    name=name,
                    retake_below=retake_below,
                    retake_above=retake_above,
                    review_below=review_below,
                    review_above=review_above,
                )
                .on_conflict_do_nothing()
            )

    def set_threshold(
        self,
        name: str,
        *,
        retake_below: float | None = None,
        retake_above: float | None = None,
        review_below: float | None = None,
        review_above: float | None = None,
    ) -> Threshold:
        """Insert a threshold, or replace all limits of an existing one."""
        return self._upsert(
            Threshold,
            name=name,
            retake_below=retake_below,
            retake_above=retake_above,
            review_below=review_below,
            review_above=review_above,
        )

    def thresholds(self) -> list[Threshold]:
        return self._all(select(Threshold).order_by(Threshold.name))


def _locked(session: Session, take_id: str) -> Take:
    """The take, locked until the transaction ends. Raises LookupError."""
    take = session.get(Take, take_id, with_for_update=True)
    if take is None:
        raise LookupError(f"no take {take_id}")
    return take


def reopen_take(session: Session, take_id: str, *only_if: ColumnElement[bool]) -> None:
    """Set it to rendering, without frames, verdict or scores; part of the caller's transaction."""
    reopened = session.scalar(
        update(Take)
        .where(Take.id == take_id, *only_if)
        .values(state=TakeState.RENDERING, mezzanine_address=None, verdict=None, reasons=[])
        .returning(Take.id)
    )
    if reopened is not None:
        session.execute(delete(Score).where(Score.take_id == take_id))
