"""Shots that are drafted from a video; and done segments name no checkpoint, which is deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    op.add_column("shots", sa.Column("draft_asset", sa.Text(), nullable=True))
    op.add_column("shots", sa.Column("draft_address", sa.Text(), nullable=True))
    op.add_column("shots", sa.Column("draft_spec", JSONB(none_as_null=True), nullable=True))
    op.create_foreign_key(
        op.f("fk_shots_draft_asset_assets"), "shots", "assets", ["draft_asset"], ["digest"]
    )
    op.create_index(op.f("ix_shots_draft_asset"), "shots", ["draft_asset"])
    op.create_check_constraint(
        op.f("ck_shots_draft_is_whole"),
        "shots",
        "(draft_asset IS NULL) = (draft_address IS NULL)"
        " AND (draft_asset IS NULL) = (draft_spec IS NULL)",
    )
    op.execute(
        "UPDATE segments SET checkpoint_address = NULL, checkpoint_step = 0 WHERE state = 'done'"
    )


def downgrade() -> None:
    for column in ("draft_spec", "draft_address", "draft_asset"):
        op.drop_column("shots", column)
