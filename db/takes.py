"""Attempts at a shot, the prompts they are made from, and what the gate finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import ids
from db.models import Embedding, Score, Take, Threshold
from db.questions import Questions
from db.states import TakeState, Verdict


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One measured number of a take; `frame` is where it is worst, if it has one place."""

    name: str
    value: float
    frame: int | None = None
    detail: str = ""


class TakeQuestions(Questions):
    def start_take(self, shot_id: str, attempt: int, seed: int) -> Take:
        """Begin an attempt, or find it where it was begun before, however far it has come.

        Raises ValueError if it was begun with another seed.
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

    def finish_take(self, take_id: str, mezzanine_address: str) -> Take:
        """Say that its frames are in the store."""
        return self._update(
            Take, take_id, state=TakeState.RENDERED, mezzanine_address=mezzanine_address
        )

    def forget_mezzanine(self, take_id: str, address: str) -> None:
        """Say that the frames at `address` are lost: the take is to be decoded and judged anew.

        Does nothing if the take has other frames by now, or none.
        """
        with self._sessions.begin() as session:
            reopen_take(session, take_id, Take.mezzanine_address == address)

    def add_scores(self, take_id: str, scores: Sequence[ScoreRow]) -> None:
        """Store what was measured of a take, in place of what was measured before."""
        with self._sessions.begin() as session:
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

    def scores(self, take_id: str) -> list[Score]:
        return self._all(select(Score).where(Score.take_id == take_id).order_by(Score.index))

    def set_verdict(self, take_id: str, verdict: Verdict, reasons: Sequence[str]) -> Take:
        """Store the gate's answer. Raises ValueError if the take is not rendered yet."""
        with self._sessions.begin() as session:
            take = session.scalar(
                update(Take)
                .where(Take.id == take_id, Take.state == TakeState.RENDERED)
                .values(verdict=verdict, reasons=list(reasons))
                .returning(Take)
            )
        if take is None:
            state = self.take(take_id).state
            raise ValueError(f"take {take_id} is {state}: only a rendered one can be judged")
        return take

    def embedding(self, key: str) -> str | None:
        """Where a prompt's embedding is; None if nobody has encoded it yet."""
        with self._sessions() as session:
            row = session.get(Embedding, key)
        return None if row is None else row.address

    def add_embedding(self, key: str, address: str) -> None:
        """Say that a prompt's embedding is in the store; the first one told of stays."""
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
        """Have a threshold of that name; one that is there already keeps its own limits."""
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
        """Give a threshold these limits and no others, whether or not it was there."""
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


def reopen_take(session: Session, take_id: str, *only_if: ColumnElement[bool]) -> None:
    """Have it rendering again, with no frames and nothing said of them; part of a transaction."""
    reopened = session.scalar(
        update(Take)
        .where(Take.id == take_id, *only_if)
        .values(state=TakeState.RENDERING, mezzanine_address=None, verdict=None, reasons=[])
        .returning(Take.id)
    )
    if reopened is not None:
        session.execute(delete(Score).where(Score.take_id == take_id))
