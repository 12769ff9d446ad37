"""Films that are enlarged: a stage for a take's segments, what they start from, and conditions in a
second size."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    stage = sa.Enum(
        *("base", "upscale"), name="stage", native_enum=False, create_constraint=True, length=16
    )
    op.add_column("take_segments", sa.Column("stage", stage, server_default="base", nullable=False))
    op.add_column("segments", sa.Column("enlarged_address", sa.Text(), nullable=True))
    op.add_column("conditions", sa.Column("target_address", sa.Text(), nullable=True))
    op.add_column("conditions", sa.Column("target_spec", JSONB(none_as_null=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_conditions_target_is_whole"),
        "conditions",
        "(target_address IS NULL) = (target_spec IS NULL)",
    )


def downgrade() -> None:
    for table, column in (
        ("conditions", "target_spec"),
        ("conditions", "target_address"),
        ("segments", "enlarged_address"),
        ("take_segments", "stage"),
    ):
        op.drop_column(table, column)
