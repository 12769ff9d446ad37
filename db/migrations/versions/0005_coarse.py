"""Shots that are rendered coarse first: a stage before the base model's."""

from __future__ import annotations

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"

_CHECK = "ck_take_segments_stage"


def upgrade() -> None:
    op.drop_constraint(op.f(_CHECK), "take_segments", type_="check")
    op.create_check_constraint(
        op.f(_CHECK), "take_segments", "stage IN ('coarse', 'base', 'upscale')"
    )


def downgrade() -> None:
    op.execute("DELETE FROM take_segments WHERE stage = 'coarse'")
    op.drop_constraint(op.f(_CHECK), "take_segments", type_="check")
    op.create_check_constraint(op.f(_CHECK), "take_segments", "stage IN ('base', 'upscale')")
