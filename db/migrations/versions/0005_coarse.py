"""Shots that are rendered coarse first: a stage before the base model's.

Storyboards that are stored already go on without it, so that their finished segments are found.
"""

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
    op.execute(
        """
        UPDATE storyboards SET document = jsonb_set(document, '{shots}', (
            SELECT jsonb_agg('{"coarse": "off"}'::jsonb || shot ORDER BY place)
            FROM jsonb_array_elements(document -> 'shots') WITH ORDINALITY AS shots (shot, place)
        ))
        """
    )


def downgrade() -> None:
    op.execute("DELETE FROM take_segments WHERE stage = 'coarse'")
    op.execute(
        """
        UPDATE storyboards SET document = jsonb_set(document, '{shots}', (
            SELECT jsonb_agg(shot - 'coarse' ORDER BY place)
            FROM jsonb_array_elements(document -> 'shots') WITH ORDINALITY AS shots (shot, place)
        ))
        """
    )
    op.drop_constraint(op.f(_CHECK), "take_segments", type_="check")
    op.create_check_constraint(op.f(_CHECK), "take_segments", "stage IN ('base', 'upscale')")
