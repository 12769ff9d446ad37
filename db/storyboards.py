"""Queries on storyboards, their shots and conditions, and deliverables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from db import ids
from db.models import Asset, Condition, Deliverable, Shot, Storyboard
from db.progress import StoryboardProgress, read_progress
from db.queries import Queries
from db.states import AssetKind, ConditionKind, DeliverableKind, ShotState, StoryboardState


@dataclass(frozen=True, kw_only=True)
class NewAsset:
    """A file that has come in, under the sha256 of its bytes."""

    digest: str
    kind: AssetKind
    address: str
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewCondition:
    """A keyframe or clip of a shot; numbered from 0 within the shot."""

    index: int
    kind: ConditionKind
    frame: int
    frames: int
    asset: NewAsset
    rendition_address: str
    rendition_spec: Mapping[str, Any]
    target_address: str | None = None
    target_spec: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class NewDraft:
    """The draft video of a shot."""

    asset: NewAsset
    rendition_address: str
    rendition_spec: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewShot:
    name: str | None
    frames: int
    seed: int
    conditions: Sequence[NewCondition] = ()
    draft: NewDraft | None = None


@dataclass(frozen=True, kw_only=True)
class NewStoryboard:
    """A validated storyboard, under an id from `ids.new_storyboard_id()`, and all of its shots."""

    id: str
    title: str
    document: Mapping[str, Any]
    shots: Sequence[NewShot]
    variant: str | None = None
    parent_id: str | None = None
    due_at: datetime | None = None


class StoryboardQueries(Queries):
    def add_storyboards(self, boards: Sequence[NewStoryboard]) -> None:
        """Store them with their shots, conditions and assets, in one transaction.

        A storyboard that is stored already stays unchanged, with everything below it.
        """
        shots = [shot for new in boards for shot in new.shots]
        used = [each.asset for shot in shots for each in shot.conditions]
        used += [shot.draft.asset for shot in shots if shot.draft is not None]
        assets = {asset.digest: asset for asset in used}
        with self._sessions.begin() as session:
            # One order for all callers: two submissions that share assets must not deadlock.
            for digest in sorted(assets):
                session.execute(_newest(assets[digest]))
            for new in boards:
                _add_storyboard(session, new)

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

    def rendering_storyboards(self) -> list[Storyboard]:
        """Those in state rendering."""
        return self._all(
            select(Storyboard)
            .where(Storyboard.state == StoryboardState.RENDERING)
            .order_by(Storyboard.id)
        )

    def recent_storyboards(self, limit: int) -> list[Storyboard]:
        """The latest `limit` that were added, newest first."""
        return self._all(
            select(Storyboard).order_by(Storyboard.created_at.desc(), Storyboard.id).limit(limit)
        )

    def set_storyboard_state(
        self, storyboard_id: str, state: StoryboardState, *, error: str | None = None
    ) -> Storyboard:
        """Set its state. Raises ValueError if its present state does not allow that."""
        allowed = [before for before in StoryboardState if state in before.next]
        return self._move(Storyboard, storyboard_id, state, allowed, error)

    def set_flow_run(self, storyboard_id: str, flow_run_id: str) -> None:
        """Store the id of the Prefect run that renders it now."""
        self._update(Storyboard, storyboard_id, flow_run_id=flow_run_id)

    def progress(self, storyboard_id: str) -> StoryboardProgress:
        """The whole tree below a storyboard, from one database snapshot."""
        with self._sessions() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            storyboard = session.get(Storyboard, storyboard_id)
            if storyboard is None:
                raise LookupError(f"no storyboard {storyboard_id}")
            return read_progress(session, storyboard)

    def shot(self, shot_id: str) -> Shot:
        return self._get(Shot, shot_id)

    def shots(self, storyboard_id: str) -> list[Shot]:
        return self._all(
            select(Shot).where(Shot.storyboard_id == storyboard_id).order_by(Shot.index)
        )

    def set_shot_state(self, shot_id: str, state: ShotState, *, error: str | None = None) -> Shot:
        """Set its state. Raises ValueError if its present state does not allow that."""
        allowed = [before for before in ShotState if state in before.next]
        return self._move(Shot, shot_id, state, allowed, error)

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
        """Record that a finished file of `size` bytes is in the store; a newer one replaces it."""
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


def _newest(asset: NewAsset) -> Insert:
    """An asset's row; a newer address of the same bytes replaces the one before."""
    statement = insert(Asset).values(
        digest=asset.digest, kind=asset.kind, address=asset.address, info=dict(asset.info)
    )
    named = {name: statement.excluded[name] for name in ("kind", "address", "info")}
    return statement.on_conflict_do_update(index_elements=["digest"], set_=named)


def _add_storyboard(session: Session, new: NewStoryboard) -> None:
    added = session.scalar(
        insert(Storyboard)
        .values(
            id=new.id,
            title=new.title,
            document=dict(new.document),
            variant=new.variant,
            parent_id=new.parent_id,
            due_at=new.due_at,
        )
        .on_conflict_do_nothing()
        .returning(Storyboard.id)
    )
    if added is None:
        return
    for index, shot in enumerate(new.shots):
        shot_id = ids.shot_id(new.id, index)
        session.execute(
            insert(Shot).values(
                id=shot_id,
                storyboard_id=new.id,
                index=index,
                name=shot.name,
                frames=shot.frames,
                seed=shot.seed,
                draft_asset=shot.draft and shot.draft.asset.digest,
                draft_address=shot.draft and shot.draft.rendition_address,
                draft_spec=shot.draft and dict(shot.draft.rendition_spec),
            )
        )
        for each in shot.conditions:
            session.execute(
                insert(Condition).values(
                    shot_id=shot_id,
                    index=each.index,
                    kind=each.kind,
                    frame=each.frame,
                    frames=each.frames,
                    asset=each.asset.digest,
                    rendition_address=each.rendition_address,
                    rendition_spec=dict(each.rendition_spec),
                    target_address=each.target_address,
                    target_spec=each.target_spec and dict(each.target_spec),
                )
            )
