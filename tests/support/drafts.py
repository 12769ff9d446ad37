"""Shots that start from a draft."""

from __future__ import annotations

from typing import Any

from dreamontage.storyboard import Shot


def drafted_shot(**fields: Any) -> Shot:
    """A shot of 33 frames with an automatic draft; keywords override."""
    return Shot.model_validate({"duration": "33f", "draft": "auto", **fields})
