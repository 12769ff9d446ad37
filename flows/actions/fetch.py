"""Fetching what a storyboard has come to: its film, contact sheet and record."""

from __future__ import annotations

from pathlib import Path

from flows.studio.farm import Farm


def fetch(farm: Farm, storyboard_id: str, out: Path) -> list[Path]:
    """Copy a storyboard's deliverables into the folder ``out``; where they are now.

    Args:
        storyboard_id: an id, or how it begins.

    Raises:
        LookupError: when no storyboard, or more than one, has such an id.
        ValueError: when the storyboard has no deliverables yet.
        NotFound, Torn: when the store has lost one (`storage`).
    """
    found = farm.repository.find_storyboard(storyboard_id)
    deliverables = farm.repository.deliverables(found.id)
    if not deliverables:
        raise ValueError(f"{found.id} is {found.state}: it has nothing to fetch yet")
    out.mkdir(parents=True, exist_ok=True)
    return [farm.store.fetch(each.address, out / each.info["name"]) for each in deliverables]
