"""Ids that a person can read aloud, type, and find in a log or a Prefect artifact's key.

A storyboard's id is drawn once, at submission; the ids below it are numbered from it. So a task
that runs twice uses the same ids, and adding the same rows twice changes nothing.
"""

from __future__ import annotations

import secrets

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no 0/o, 1/l/i: they look alike


def new_storyboard_id() -> str:
    """A fresh id such as `sb-7k3q9x2m`; 31**8 of them, so a farm never sees two alike."""
    return "sb-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def shot_id(storyboard: str, index: int) -> str:
    """`sb-7k3q9x2m-s0`: the storyboard's shot number `index`, from 0."""
    return f"{storyboard}-s{index}"


def take_id(shot: str, attempt: int) -> str:
    """`sb-7k3q9x2m-s0-t1`: attempt number `attempt` at the shot, from 0."""
    return f"{shot}-t{attempt}"
