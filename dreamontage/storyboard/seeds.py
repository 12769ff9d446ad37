"""One seed for a storyboard, and from it one for every shot, take and segment."""

from __future__ import annotations

import hashlib

SEED_BITS = 63


def derive(seed: int, *path: str | int) -> int:
    """A seed of 63 bits for the thing that `path` names below the holder of `seed`."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> (64 - SEED_BITS)


def shot_seed(storyboard_seed: int, index: int, own: int | None) -> int:
    """A shot's seed: its own where it has one, else one of its place in the storyboard."""
    return derive(storyboard_seed, "shot", index) if own is None else own


def take_seed(seed: int, attempt: int) -> int:
    """A take's seed: the shot's own for attempt 0, so a seed that was asked for is the one used."""
    return seed if attempt == 0 else derive(seed, "take", attempt)


def segment_seed(seed: int, index: int) -> int:
    """The seed of a take's segment."""
    return derive(seed, "segment", index)
