"""How far storyboards have come, by their rows, and by Prefect where a run can say no more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import httpx

from db.models import Storyboard
from db.progress import StoryboardProgress
from db.states import StoryboardState
from flows.studio.farm import Farm
from flows.studio.services import client
from flows.studio.settings import Settings

FINAL = frozenset({StoryboardState.DONE, StoryboardState.REVIEW, StoryboardState.FAILED})

_EVERY_SECONDS = 1.0
_RUN_EVERY_SECONDS = 5.0  # between two questions to Prefect

_RunState = tuple[str, str]  # of a run, in Prefect: its id, its name


def status(farm: Farm, storyboard_id: str) -> StoryboardProgress:
    """One storyboard, down to its segments and who holds them.

    Args:
        storyboard_id: an id, or how it begins.

    Raises:
        LookupError: when no storyboard, or more than one, has such an id.
    """
    return farm.repository.progress(farm.repository.find_storyboard(storyboard_id).id)


def recent(farm: Farm, count: int = 20) -> list[StoryboardProgress]:
    """The latest storyboards, the newest first."""
    return [farm.repository.progress(each.id) for each in farm.repository.recent_storyboards(count)]


def follow(farm: Farm, storyboard_ids: Sequence[str]) -> Iterator[list[StoryboardProgress]]:
    """Yield these storyboards about once a second until all are final; the last one is how they
    ended.

    A storyboard whose run died is reported as failed, although its row does not say so: a dead run
    cannot write.
    """
    suspects: dict[str, _RunState] = {}
    dead: dict[str, _RunState] = {}
    asked = 0.0
    while True:
        found = [farm.repository.progress(storyboard_id) for storyboard_id in storyboard_ids]
        unfinished = [each.storyboard for each in found if each.storyboard.state not in FINAL]
        # `dead` is older than these rows, and a run that has ended writes no more: if one of them
        # had written its end, the row would have it by now.
        _mark_dead(unfinished, dead)
        yield found
        if all(progress.storyboard.state in FINAL for progress in found):
            return
        if time.monotonic() - asked > _RUN_EVERY_SECONDS:
            before, suspects = suspects, _ended_runs(unfinished, farm.settings)
            # The supervisor soon restarts a crashed run: only a second look with the same answer
            # counts.
            dead = {each: state for each, state in suspects.items() if before.get(each) == state}
            asked = time.monotonic()
        time.sleep(_EVERY_SECONDS)


def _ended_runs(unfinished: Sequence[Storyboard], settings: Settings) -> dict[str, _RunState]:
    """The states of the runs that have ended although their storyboards have not, by storyboard."""
    ended: dict[str, _RunState] = {}
    with suppress(httpx.HTTPError), client(settings) as api:  # a server may be starting again
        for storyboard in unfinished:
            if storyboard.flow_run_id is None:
                continue
            answer = api.get(f"/flow_runs/{storyboard.flow_run_id}").raise_for_status()
            state = answer.json()["state"] or {}
            if state.get("type") in ("FAILED", "CRASHED", "CANCELLED"):
                ended[storyboard.id] = state["id"], state["name"]
    return ended


def _mark_dead(unfinished: Sequence[Storyboard], dead: dict[str, _RunState]) -> None:
    for storyboard in unfinished:
        if storyboard.id in dead:
            # Only what is shown: the row's own state is set by the run, once it is retried.
            storyboard.state = StoryboardState.FAILED
            _, name = dead[storyboard.id]
            storyboard.error = f"its run ended: {name}; retry it in the Prefect UI"
