"""A storyboard's progress as a person reads it in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import httpx
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from db.models import Storyboard
from db.progress import SegmentProgress, ShotProgress, StoryboardProgress
from db.repository import Repository
from db.states import SegmentState, Stage, StoryboardState
from flows.services import client
from flows.settings import Settings

_EVERY_SECONDS = 1.0
_RUN_EVERY_SECONDS = 5.0  # between two questions to Prefect
FINAL = frozenset({StoryboardState.DONE, StoryboardState.REVIEW, StoryboardState.FAILED})

_State = tuple[str, str]  # of a run, in Prefect: its id, its name

_COLOURS = {
    "done": "green",
    "review": "yellow",
    "failed": "red",
    "rendering": "cyan",
    "running": "cyan",
}


def _state(name: str) -> str:
    return f"[{_COLOURS.get(name, 'dim')}]{name}[/]"


def tree(progress: StoryboardProgress) -> Tree:
    """The storyboard, its shots, their takes' segments, and what has been delivered."""
    storyboard = progress.storyboard
    head = f"[bold]{storyboard.id}[/] {_title(storyboard)}: {_state(storyboard.state)}"
    root = Tree(head)
    if storyboard.error:
        root.add(Text(storyboard.error, style="red"))
    for shot in progress.shots:
        branch = root.add(_shot(shot))
        if shot.shot.error:
            branch.add(Text(shot.shot.error, style="red"))
        if shot.take is not None:
            for reason in shot.take.take.reasons:
                branch.add(Text(reason, style="yellow"))
            for segment in shot.take.segments:
                branch.add(_segment(segment))
    for deliverable in progress.deliverables:
        name = escape(deliverable.info["name"])
        root.add(f"{deliverable.kind}: {name} [dim]{deliverable.bytes:,} bytes")
    return root


def _title(storyboard: Storyboard) -> str:
    variant = f" ({storyboard.variant})" if storyboard.variant else ""
    return escape(f"{storyboard.title}{variant}")


def _shot(progress: ShotProgress) -> str:
    shot, take = progress.shot, progress.take
    text = f"{escape(str(shot.name))}, {shot.frames} frames: {_state(shot.state)}"
    if take is None:
        return text
    verdict = f", gate: {take.take.verdict}" if take.take.verdict else ""
    return f"{text} [dim]take {take.take.attempt + 1}{verdict}[/]"


def _segment(progress: SegmentProgress) -> str:
    segment = progress.segment
    name = "segment" if progress.stage is Stage.BASE else "upscale"
    text = f"{name} {progress.index + 1} {_state(segment.state)} {progress.step}/{segment.steps}"
    if segment.state is SegmentState.RUNNING and progress.lease_age is not None:
        age = f"{progress.lease_age.total_seconds():.0f} s"
        gone = ", [red]its holder is gone: free to take over[/]" if progress.lease_expired else ""
        holder = escape(segment.lease_holder or "nobody")
        text += f" [dim]held by {holder}, last heard of {age} ago[/]{gone}"
    if segment.error:
        text += f" [red]{escape(segment.error)}[/]"
    return text


def summary(found: Sequence[StoryboardProgress]) -> Table:
    """One line a storyboard: for several at once."""
    table = Table(box=None, pad_edge=False, caption_justify="left")
    if any(each.storyboard.state is StoryboardState.REVIEW for each in found):
        table.caption = "review: finished; what the gate found in it, `dreamontage status ID` tells"
    for name in ("storyboard", "title", "state", "denoise steps", "shots"):
        table.add_column(name)
    for progress in found:
        done = sum(shot.shot.state in ("done", "review") for shot in progress.shots)
        table.add_row(
            progress.storyboard.id,
            _title(progress.storyboard),
            _state(progress.storyboard.state),
            f"{progress.step}/{progress.steps or '?'}",
            f"{done}/{len(progress.shots)}",
        )
    return table


def until_final(
    storyboard_ids: Sequence[str], repository: Repository, settings: Settings, console: Console
) -> list[StoryboardProgress]:
    """Show these storyboards until each is final, and return how they ended.

    One whose run died can say so no more: it is told as failed, though its row is not.
    Without a terminal, a line is printed whenever one of them has come further.
    """
    told: dict[str, str] = {}
    suspects: dict[str, _State] = {}
    dead: dict[str, _State] = {}
    asked = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            found = [repository.progress(storyboard_id) for storyboard_id in storyboard_ids]
            unfinished = [each.storyboard for each in found if each.storyboard.state not in FINAL]
            # A run that had ended before the look at the rows has written there all it ever will.
            _tell_dead(unfinished, dead)
            if console.is_terminal:
                shown: RenderableType = tree(found[0]) if len(found) == 1 else summary(found)
                live.update(shown, refresh=True)
            else:
                _tell_changes(found, told, console)
            if all(progress.storyboard.state in FINAL for progress in found):
                return found
            if time.monotonic() - asked > _RUN_EVERY_SECONDS:
                before, suspects = suspects, _ended_runs(unfinished, settings)
                # The supervisor runs a crashed one again, soon: a second look has to find it so.
                dead = {
                    each: state for each, state in suspects.items() if before.get(each) == state
                }
                asked = time.monotonic()
            time.sleep(_EVERY_SECONDS)


def _ended_runs(unfinished: Sequence[Storyboard], settings: Settings) -> dict[str, _State]:
    """By storyboard, the states of those runs that have ended all the same."""
    ended: dict[str, _State] = {}
    with suppress(httpx.HTTPError), client(settings) as api:  # a server may be starting again
        for storyboard in unfinished:
            if storyboard.flow_run_id is None:
                continue
            answer = api.get(f"/flow_runs/{storyboard.flow_run_id}").raise_for_status()
            state = answer.json()["state"] or {}
            if state.get("type") in ("FAILED", "CRASHED", "CANCELLED"):
                ended[storyboard.id] = state["id"], state["name"]
    return ended


def _tell_dead(unfinished: Sequence[Storyboard], dead: dict[str, _State]) -> None:
    for storyboard in unfinished:
        if storyboard.id in dead:
            # Only what is shown: the row's own state is the run's to set, once it is retried.
            storyboard.state = StoryboardState.FAILED
            _, name = dead[storyboard.id]
            storyboard.error = f"its run ended: {name}; retry it in the Prefect UI"


def _tell_changes(
    found: Sequence[StoryboardProgress], told: dict[str, str], console: Console
) -> None:
    for progress in found:
        storyboard = progress.storyboard
        line = f"{storyboard.id} {storyboard.state} {progress.step}/{progress.steps or '?'} steps"
        if storyboard.error:
            line += f": {storyboard.error}"
        if told.get(storyboard.id) != line:
            told[storyboard.id] = line
            console.print(line, highlight=False, markup=False)
