"""A storyboard's progress as a person reads it in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from db.progress import SegmentProgress, ShotProgress, StoryboardProgress
from db.repository import Repository
from db.states import SegmentState, StoryboardState

_EVERY_SECONDS = 1.0
FINAL = frozenset({StoryboardState.DONE, StoryboardState.REVIEW, StoryboardState.FAILED})

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
    variant = f" ({storyboard.variant})" if storyboard.variant else ""
    head = f"[bold]{storyboard.id}[/] {storyboard.title}{variant}: {_state(storyboard.state)}"
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
        root.add(f"{deliverable.kind}: {deliverable.info['name']} [dim]{deliverable.bytes:,} bytes")
    return root


def _shot(progress: ShotProgress) -> str:
    shot, take = progress.shot, progress.take
    text = f"{shot.name}, {shot.frames} frames: {_state(shot.state)}"
    if take is None:
        return text
    verdict = f", gate: {take.take.verdict}" if take.take.verdict else ""
    return f"{text} [dim]take {take.take.attempt + 1}{verdict}[/]"


def _segment(progress: SegmentProgress) -> str:
    segment = progress.segment
    text = f"segment {progress.index + 1} {_state(segment.state)} {progress.step}/{segment.steps}"
    if segment.state is SegmentState.RUNNING and progress.lease_age is not None:
        age = f"{progress.lease_age.total_seconds():.0f} s"
        gone = ", [red]its holder is gone: free to take over[/]" if progress.lease_expired else ""
        text += f" [dim]held by {segment.lease_holder}, last heard of {age} ago[/]{gone}"
    if segment.error:
        text += f" [red]{segment.error}[/]"
    return text


def summary(found: Sequence[StoryboardProgress]) -> Table:
    """One line a storyboard: for several at once."""
    table = Table(box=None, pad_edge=False)
    for name in ("storyboard", "title", "state", "denoise steps", "shots"):
        table.add_column(name)
    for progress in found:
        done = sum(shot.shot.state in ("done", "review") for shot in progress.shots)
        variant = f" ({progress.storyboard.variant})" if progress.storyboard.variant else ""
        table.add_row(
            progress.storyboard.id,
            progress.storyboard.title + variant,
            _state(progress.storyboard.state),
            f"{progress.step}/{progress.steps or '?'}",
            f"{done}/{len(progress.shots)}",
        )
    return table


def until_final(
    storyboard_ids: Sequence[str], repository: Repository, console: Console
) -> list[StoryboardProgress]:
    """Show these storyboards until each is final, and return how they ended.

    Without a terminal, a line is printed whenever one of them has come further.
    """
    told: dict[str, str] = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            found = [repository.progress(storyboard_id) for storyboard_id in storyboard_ids]
            if console.is_terminal:
                shown: RenderableType = tree(found[0]) if len(found) == 1 else summary(found)
                live.update(shown, refresh=True)
            else:
                _tell_changes(found, told, console)
            if all(progress.storyboard.state in FINAL for progress in found):
                return found
            time.sleep(_EVERY_SECONDS)


def _tell_changes(
    found: Sequence[StoryboardProgress], told: dict[str, str], console: Console
) -> None:
    for progress in found:
        storyboard = progress.storyboard
        line = f"{storyboard.id} {storyboard.state} {progress.step}/{progress.steps or '?'} steps"
        if told.get(storyboard.id) != line:
            told[storyboard.id] = line
            console.print(line, highlight=False)
