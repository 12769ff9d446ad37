"""What is wanted and what came of it: storyboards, their shots and conditions, deliverables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from db import ids
from db.models import Asset, Condition, Deliverable, Shot, Storyboard
from db.progress import StoryboardProgress, read_progress
from db.questions import Questions
from db.states import AssetKind, ConditionKind, DeliverableKind, ShotState, StoryboardState


class StoryboardQuestions(Questions):
    def add_storyboard(
        self,
        storyboard_id: str,
        *,
        title: str,
        document: Mapping[str, Any],
        variant: str | None = None,
        parent_id: str | None = None,
        due_at: datetime | None = None,
    ) -> Storyboard:
        """Store a validated storyboard under an id from `ids.new_storyboard_id()`.

        One that is there already stays as it is.
        """
        with self._sessions.begin() as session:
            session.execute(
                insert(Storyboard)
                .values(
                    id=storyboard_id,
                    title=title,
                    document=dict(document),
                    variant=variant,
                    parent_id=parent_id,
                    due_at=due_at,
                )
                .on_conflict_do_nothing()
            )
            return session.get_one(Storyboard, storyboard_id)

    def storyboard(self, storyboard_id: str) -> Storyboard:
        return self._get(Storyboard, storyboard_id)

    def find_storyboard(self, prefix: str) -> Storyboard:
        """The one whose id begins so, with or without its `sb-`.

        Raises LookupError if there is none, ValueError if there are several.
        """
        start = prefix if prefix.startswith("sb-") else f"sb-{prefix}"
        with self._sessions() as session:
            found = session.scalars(
                select(Storyboard)
                .where(Storyboard.id.startswith(start, autoescape=True))
                .order_by(Storyboard.id)
                .limit(6)
            ).all()
        if not found:
            raise LookupError(f"no storyboard's id begins with {prefix!r}")
        if len(found) > 1 and found[0].id != start:
            names = ", ".join(storyboard.id for storyboard in found[:5])
            more = ", …" if len(found) > 5 else ""
            raise ValueError(f"{prefix!r} begins the id of several storyboards: {names}{more}")
        return found[0]

    def due_storyboards(self, now: datetime) -> list[Storyboard]:
        """Those submitted for a time that has come, the longest due first."""
        return self._all(
            select(Storyboard)
            .where(Storyboard.state == StoryboardState.SUBMITTED, Storyboard.due_at <= now)
            .order_by(Storyboard.due_at, Storyboard.id)
        )

    def recent_storyboards(self, limit: int) -> list[Storyboard]:
        """The latest `limit` that were added, newest first."""
        return self._all(
            select(Storyboard).order_by(Storyboard.created_at.desc(), Storyboard.id).limit(limit)
        )

    def set_storyboard_state(
        self, storyboard_id: str, state: StoryboardState, *, error: str | None = None
    ) -> Storyboard:
        """Move it on. Raises ValueError if its present state does not allow that."""
        allowed = [before for before in StoryboardState if state in before.next]
        return self._move(Storyboard, storyboard_id, state, allowed, error)

    def set_flow_run(self, storyboard_id: str, flow_run_id: str) -> None:
        """Remember which Prefect run renders it now."""
        self._update(Storyboard, storyboard_id, flow_run_id=flow_run_id)

    def progress(self, storyboard_id: str) -> StoryboardProgress:
        """The whole tree below a storyboard, as of one moment."""
        with self._sessions() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            storyboard = session.get(Storyboard, storyboard_id)
            if storyboard is None:
                raise LookupError(f"no storyboard {storyboard_id}")
            return read_progress(session, storyboard)

    def add_shot(
        self, storyboard_id: str, index: int, *, name: str | None, frames: int, seed: int
    ) -> Shot:
        return self._upsert(
            Shot,
            id=ids.shot_id(storyboard_id, index),
            storyboard_id=storyboard_id,
            index=index,
            name=name,
            frames=frames,
            seed=seed,
        )

    def shot(self, shot_id: str) -> Shot:
        return self._get(Shot, shot_id)

    def shots(self, storyboard_id: str) -> list[Shot]:
        return self._all(
            select(Shot).where(Shot.storyboard_id == storyboard_id).order_by(Shot.index)
        )

    def set_shot_state(self, shot_id: str, state: ShotState, *, error: str | None = None) -> Shot:
        """Move it on. Raises ValueError if its present state does not allow that."""
        allowed = [before for before in ShotState if state in before.next]
        return self._move(Shot, shot_id, state, allowed, error)

    def add_asset(
        self, digest: str, *, kind: AssetKind, address: str, info: Mapping[str, Any]
    ) -> Asset:
        return self._upsert(Asset, digest=digest, kind=kind, address=address, info=dict(info))

    def asset(self, digest: str) -> Asset:
        return self._get(Asset, digest)

    def add_condition(
        self,
        shot_id: str,
        index: int,
        *,
        kind: ConditionKind,
        frame: int,
        frames: int,
        asset: str,
        rendition_address: str,
        rendition_spec: Mapping[str, Any],
    ) -> Condition:
        return self._upsert(
            Condition,
            shot_id=shot_id,
            index=index,
            kind=kind,
            frame=frame,
            frames=frames,
            asset=asset,
            rendition_address=rendition_address,
            rendition_spec=dict(rendition_spec),
        )

    def conditions(self, shot_id: str) -> list[Condition]:
        return self._all(
            select(Condition).where(Condition.shot_id == shot_id).order_by(Condition.index)
        )

    def add_deliverable(
        self,
        storyboard_id: str,
        kind: DeliverableKind,
        *,
        address: str,
        size: int,
        info: Mapping[str, Any],
    ) -> Deliverable:
        """Say that a finished file of `size` bytes is in the store; a newer one replaces it."""
        return self._upsert(
            Deliverable,
            storyboard_id=storyboard_id,
            kind=kind,
            address=address,
            bytes=size,
            info=dict(info),
        )

    def deliverables(self, storyboard_id: str) -> list[Deliverable]:
        return self._all(
            select(Deliverable)
            .where(Deliverable.storyboard_id == storyboard_id)
            .order_by(Deliverable.kind)
        )
