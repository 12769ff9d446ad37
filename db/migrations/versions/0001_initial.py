"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0001"
down_revision: str | None = None


def _one_of(name: str, *values: str) -> sa.Enum:
    """Text with a CHECK, as in the models; spelled out, since a migration must not change."""
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def upgrade() -> None:
    op.create_table(
        "assets",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", _one_of("kind", "image", "video"), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("info", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_assets")),
    )
    op.create_table(
        "segments",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "state",
            _one_of("state", "waiting", "running", "done", "failed"),
            server_default="waiting",
            nullable=False,
        ),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("latents_address", sa.Text(), nullable=True),
        sa.Column("checkpoint_address", sa.Text(), nullable=True),
        sa.Column("checkpoint_step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("denoise_steps_run", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_holder", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_beat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (latents_address IS NOT NULL)",
            name=op.f("ck_segments_done_has_latents"),
        ),
        sa.CheckConstraint(
            "(state = 'failed') = (error IS NOT NULL)", name=op.f("ck_segments_failed_has_error")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (lease_holder IS NOT NULL)"
            " AND (lease_holder IS NULL) = (lease_since IS NULL)"
            " AND (lease_holder IS NULL) = (lease_beat_at IS NULL)"
            " AND (lease_holder IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_segments_running_has_lease"),
        ),
        sa.CheckConstraint(
            "steps >= 1 AND checkpoint_step BETWEEN 0 AND steps AND denoise_steps_run >= 0"
            " AND (checkpoint_address IS NOT NULL OR checkpoint_step = 0)",
            name=op.f("ck_segments_steps"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_segments")),
    )
    op.create_table(
        "storyboards",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("document", JSONB(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column(
            "state",
            _one_of("state", "submitted", "rendering", "done", "review", "failed"),
            server_default="submitted",
            nullable=False,
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("flow_run_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "parent_id IS NULL OR variant IS NOT NULL",
            name=op.f("ck_storyboards_parent_has_variant"),
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["storyboards.id"], name=op.f("fk_storyboards_parent_id_storyboards")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storyboards")),
    )
    op.create_index("ix_storyboards_created_at", "storyboards", ["created_at"], unique=False)
    op.create_index(
        "ix_storyboards_due_at",
        "storyboards",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'submitted'"),
    )
    op.create_index(op.f("ix_storyboards_parent_id"), "storyboards", ["parent_id"], unique=False)
    op.create_table(
        "thresholds",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("retake_below", sa.Float(), nullable=True),
        sa.Column("retake_above", sa.Float(), nullable=True),
        sa.Column("review_below", sa.Float(), nullable=True),
        sa.Column("review_above", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_thresholds")),
    )
    op.create_table(
        "embeddings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_embeddings")),
    )
    op.create_table(
        "deliverables",
        sa.Column("storyboard_id", sa.Text(), nullable=False),
        sa.Column("kind", _one_of("kind", "film", "sheet", "record"), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("info", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["storyboard_id"],
            ["storyboards.id"],
            name=op.f("fk_deliverables_storyboard_id_storyboards"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("storyboard_id", "kind", name=op.f("pk_deliverables")),
    )
    op.create_table(
        "shots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("storyboard_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            _one_of("state", "planned", "rendering", "done", "review", "failed"),
            server_default="planned",
            nullable=False,
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("index >= 0 AND frames >= 1", name=op.f("ck_shots_counts")),
        sa.ForeignKeyConstraint(
            ["storyboard_id"],
            ["storyboards.id"],
            name=op.f("fk_shots_storyboard_id_storyboards"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shots")),
        sa.UniqueConstraint("storyboard_id", "index", name=op.f("uq_shots_storyboard_id_index")),
    )
    op.create_table(
        "conditions",
        sa.Column("shot_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("kind", _one_of("kind", "keyframe", "clip"), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("rendition_address", sa.Text(), nullable=False),
        sa.Column("rendition_spec", JSONB(), nullable=False),
        sa.CheckConstraint("frame >= 0 AND frames >= 1", name=op.f("ck_conditions_counts")),
        sa.ForeignKeyConstraint(
            ["asset"], ["assets.digest"], name=op.f("fk_conditions_asset_assets")
        ),
        sa.ForeignKeyConstraint(
            ["shot_id"], ["shots.id"], name=op.f("fk_conditions_shot_id_shots"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("shot_id", "index", name=op.f("pk_conditions")),
    )
    op.create_index(op.f("ix_conditions_asset"), "conditions", ["asset"], unique=False)
    op.create_table(
        "takes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("shot_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            _one_of("state", "rendering", "rendered"),
            server_default="rendering",
            nullable=False,
        ),
        sa.Column("mezzanine_address", sa.Text(), nullable=True),
        sa.Column("verdict", _one_of("verdict", "pass", "retake", "review"), nullable=True),
        sa.Column("reasons", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(state = 'rendered') = (mezzanine_address IS NOT NULL)",
            name=op.f("ck_takes_rendered_has_mezzanine"),
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_takes_attempt")),
        sa.CheckConstraint(
            "verdict IS NULL OR mezzanine_address IS NOT NULL",
            name=op.f("ck_takes_verdict_has_mezzanine"),
        ),
        sa.ForeignKeyConstraint(
            ["shot_id"], ["shots.id"], name=op.f("fk_takes_shot_id_shots"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_takes")),
        sa.UniqueConstraint("shot_id", "attempt", name=op.f("uq_takes_shot_id_attempt")),
    )
    op.create_table(
        "scores",
        sa.Column("take_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["take_id"], ["takes.id"], name=op.f("fk_scores_take_id_takes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("take_id", "index", name=op.f("pk_scores")),
    )
    op.create_table(
        "take_segments",
        sa.Column("take_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.Column("tail", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "index >= 0 AND start >= 0 AND tail >= 0 AND start + tail < stop",
            name=op.f("ck_take_segments_window"),
        ),
        sa.ForeignKeyConstraint(
            ["key"], ["segments.key"], name=op.f("fk_take_segments_key_segments")
        ),
        sa.ForeignKeyConstraint(
            ["take_id"],
            ["takes.id"],
            name=op.f("fk_take_segments_take_id_takes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("take_id", "index", name=op.f("pk_take_segments")),
    )
    op.create_index(op.f("ix_take_segments_key"), "take_segments", ["key"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_take_segments_key"), table_name="take_segments")
    op.drop_table("take_segments")
    op.drop_table("scores")
    op.drop_table("takes")
    op.drop_index(op.f("ix_conditions_asset"), table_name="conditions")
    op.drop_table("conditions")
    op.drop_table("shots")
    op.drop_table("deliverables")
    op.drop_table("thresholds")
    op.drop_table("embeddings")
    op.drop_index(op.f("ix_storyboards_parent_id"), table_name="storyboards")
    op.drop_index(
        "ix_storyboards_due_at",
        table_name="storyboards",
        postgresql_where=sa.text("state = 'submitted'"),
    )
    op.drop_index("ix_storyboards_created_at", table_name="storyboards")
    op.drop_table("storyboards")
    op.drop_table("segments")
    op.drop_table("assets")
