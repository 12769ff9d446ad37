"""The tables. Rows carry no relationships, so one read from here needs no session afterwards.

Times are `timestamptz` and set by the database's clock. States are text with a CHECK,
which a migration can widen or narrow; a native enum can never lose a member.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.states import (
    AssetKind,
    ConditionKind,
    DeliverableKind,
    SegmentState,
    ShotState,
    Stage,
    StoryboardState,
    TakeState,
    Verdict,
)

Json = dict[str, Any]


def _names(kind: type[StrEnum], name: str) -> Enum:
    """A text column that holds the members' values and nothing else."""
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it off the class
        str: Text(),
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[str]: JSONB(none_as_null=True),
        StoryboardState: _names(StoryboardState, "state"),
        ShotState: _names(ShotState, "state"),
        TakeState: _names(TakeState, "state"),
        SegmentState: _names(SegmentState, "state"),
        Stage: _names(Stage, "stage"),
        Verdict: _names(Verdict, "verdict"),
        ConditionKind: _names(ConditionKind, "kind"),
        AssetKind: _names(AssetKind, "kind"),
        DeliverableKind: _names(DeliverableKind, "kind"),
    }


class Storyboard(Base):
    """One film to render: the whole validated document, and its state."""

    __tablename__ = "storyboards"
    __table_args__ = (
        CheckConstraint("parent_id IS NULL OR variant IS NOT NULL", name="parent_has_variant"),
        Index("ix_storyboards_due_at", "due_at", postgresql_where=text("state = 'submitted'")),
        Index("ix_storyboards_created_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    document: Mapped[Json]
    variant: Mapped[str | None]
    """The variant's name; none for a storyboard as its file has it."""
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("storyboards.id"), index=True)
    """The base storyboard that the variant was made from, where that was stored too."""
    state: Mapped[StoryboardState] = mapped_column(server_default=StoryboardState.SUBMITTED)
    error: Mapped[str | None]
    due_at: Mapped[datetime | None]
    """When the nightly flow may take it up; none for one that its submitter starts."""
    flow_run_id: Mapped[str | None]
    """Prefect's id of the latest run that rendered it."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Shot(Base):
    __tablename__ = "shots"
    __table_args__ = (
        UniqueConstraint("storyboard_id", "index"),
        CheckConstraint("index >= 0 AND frames >= 1", name="counts"),
        CheckConstraint(
            "(draft_asset IS NULL) = (draft_address IS NULL)"
            " AND (draft_asset IS NULL) = (draft_spec IS NULL)",
            name="draft_is_whole",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    storyboard_id: Mapped[str] = mapped_column(ForeignKey("storyboards.id", ondelete="CASCADE"))
    index: Mapped[int]
    name: Mapped[str | None]
    frames: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[ShotState] = mapped_column(server_default=ShotState.PLANNED)
    error: Mapped[str | None]
    draft_asset: Mapped[str | None] = mapped_column(ForeignKey("assets.digest"), index=True)
    """The draft video, if the shot has one."""
    draft_address: Mapped[str | None]
    """That video's rendition, the input of the model; `draft_spec` describes how it was made."""
    draft_spec: Mapped[Json | None]


class Asset(Base):
    """A file that a storyboard names, as it came in, by the sha256 of its bytes."""

    __tablename__ = "assets"

    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[AssetKind]
    address: Mapped[str]
    info: Mapped[Json]


class Condition(Base):
    """A keyframe or clip of a shot, and its normalised rendition, the input of the model."""

    __tablename__ = "conditions"
    __table_args__ = (
        CheckConstraint("frame >= 0 AND frames >= 1", name="counts"),
        CheckConstraint("(target_address IS NULL) = (target_spec IS NULL)", name="target_is_whole"),
    )

    shot_id: Mapped[str] = mapped_column(
        ForeignKey("shots.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[ConditionKind]
    frame: Mapped[int]
    """The first pixel frame of the shot that it covers."""
    frames: Mapped[int]
    """The number of frames that it covers: 1 for a keyframe."""
    asset: Mapped[str] = mapped_column(ForeignKey("assets.digest"), index=True)
    rendition_address: Mapped[str]
    rendition_spec: Mapped[Json]
    """How the rendition was made from the asset: size, fps, fit, in and out."""
    target_address: Mapped[str | None]
    """The rendition at the delivered size, where the film is enlarged."""
    target_spec: Mapped[Json | None]


class Take(Base):
    __tablename__ = "takes"
    __table_args__ = (
        UniqueConstraint("shot_id", "attempt"),
        CheckConstraint("attempt >= 0", name="attempt"),
        CheckConstraint(
            "(state = 'rendered') = (mezzanine_address IS NOT NULL)", name="rendered_has_mezzanine"
        ),
        CheckConstraint(
            "verdict IS NULL OR mezzanine_address IS NOT NULL", name="verdict_has_mezzanine"
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    shot_id: Mapped[str] = mapped_column(ForeignKey("shots.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[TakeState] = mapped_column(server_default=TakeState.RENDERING)
    mezzanine_address: Mapped[str | None]
    verdict: Mapped[Verdict | None]
    reasons: Mapped[list[str]] = mapped_column(server_default=text("'[]'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Segment(Base):
    """A window of latents, by the digest of everything that determines it.

    The row belongs to no take: every take whose plan gives the same key shares it.
    """

    __tablename__ = "segments"
    __table_args__ = (
        CheckConstraint(
            "(state = 'running') = (lease_holder IS NOT NULL)"
            " AND (lease_holder IS NULL) = (lease_since IS NULL)"
            " AND (lease_holder IS NULL) = (lease_beat_at IS NULL)"
            " AND (lease_holder IS NULL) = (lease_expires_at IS NULL)",
            name="running_has_lease",
        ),
        CheckConstraint(
            "(state = 'done') = (latents_address IS NOT NULL)", name="done_has_latents"
        ),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="failed_has_error"),
        CheckConstraint(
            "steps >= 1 AND checkpoint_step BETWEEN 0 AND steps AND denoise_steps_run >= 0"
            " AND (checkpoint_address IS NOT NULL OR checkpoint_step = 0)",
            name="steps",
        ),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[SegmentState] = mapped_column(server_default=SegmentState.WAITING)
    steps: Mapped[int]
    """The number of denoise steps from noise to latents."""
    latents_address: Mapped[str | None]
    enlarged_address: Mapped[str | None]
    """Address of the enlarged film's latents in its window, until the segment is done. Only for a
    segment of the super-resolution stage."""
    checkpoint_address: Mapped[str | None]
    checkpoint_step: Mapped[int] = mapped_column(server_default=text("0"))
    denoise_steps_run: Mapped[int] = mapped_column(server_default=text("0"))
    """Steps executed by all holders together, as far as they were reported."""
    lease_holder: Mapped[str | None]
    lease_token: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Grows with every claim and never falls: a write with an older token is refused."""
    lease_since: Mapped[datetime | None]
    lease_beat_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    error: Mapped[str | None]


class Embedding(Base):
    """A prompt's embedding, by the digest of the prompt and the text encoder."""

    __tablename__ = "embeddings"

    key: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]


class Curated(Base):
    """A measurement, a clip or a data set of training videos, by the digest of what determines it.

    For a data set, which grows with its folder, the row holds the address of its latest index.
    """

    __tablename__ = "curated"

    key: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]


class TakeSegment(Base):
    """Which segments a take is made of, in order."""

    __tablename__ = "take_segments"
    __table_args__ = (
        CheckConstraint(
            "index >= 0 AND start >= 0 AND tail >= 0 AND start + tail < stop", name="window"
        ),
    )

    take_id: Mapped[str] = mapped_column(
        ForeignKey("takes.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(ForeignKey("segments.key"), index=True)
    start: Mapped[int]
    """The window on the shot's latent timeline is [start, stop), tail included."""
    stop: Mapped[int]
    tail: Mapped[int]
    """How many of its first latents are the end of the window before."""
    stage: Mapped[Stage] = mapped_column(server_default=Stage.BASE)
    """Those of the base stage come first; each stage's windows cover the shot."""


class Score(Base):
    __tablename__ = "scores"

    take_id: Mapped[str] = mapped_column(
        ForeignKey("takes.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    value: Mapped[float]
    frame: Mapped[int | None]
    detail: Mapped[str] = mapped_column(server_default="")


class Deliverable(Base):
    """A finished file of a storyboard."""

    __tablename__ = "deliverables"

    storyboard_id: Mapped[str] = mapped_column(
        ForeignKey("storyboards.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[DeliverableKind] = mapped_column(primary_key=True)
    address: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    info: Mapped[Json]


class Threshold(Base):
    """The limits of a score for the gate's verdicts: data, so that a farm can tune them."""

    __tablename__ = "thresholds"

    name: Mapped[str] = mapped_column(primary_key=True)
    retake_below: Mapped[float | None]
    retake_above: Mapped[float | None]
    review_below: Mapped[float | None]
    review_above: Mapped[float | None]
