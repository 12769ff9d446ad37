"""A storyboard's progress as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from db.models import Storyboard
from db.progress import SegmentProgress, ShotProgress, StoryboardProgress
from db.states import SegmentState, StoryboardState
from flows.actions.status import follow
from flows.studio.farm import Farm

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
                branch.add(segment_line(segment))
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


def segment_line(progress: SegmentProgress) -> str:
    """One segment: its state, its steps, and who holds it."""
    segment = progress.segment
    name = progress.stage.label
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
        table.caption = "review: finished; `dreamontage status ID` shows what the gate found in it"
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
    farm: Farm, storyboard_ids: Sequence[str], console: Console
) -> list[StoryboardProgress]:
    """Show these storyboards until each is final, and return how they ended.

    Without a terminal, a line is printed whenever one of them has come further.
    """
    printed: dict[str, str] = {}
    found: list[StoryboardProgress] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for found in follow(farm, storyboard_ids):
            if console.is_terminal:
                shown: RenderableType = tree(found[0]) if len(found) == 1 else summary(found)
                live.update(shown, refresh=True)
            else:
                _print_changes(found, printed, console)
    return found


def _print_changes(
    found: Sequence[StoryboardProgress], printed: dict[str, str], console: Console
) -> None:
    for progress in found:
        storyboard = progress.storyboard
        line = f"{storyboard.id} {storyboard.state} {progress.step}/{progress.steps or '?'} steps"
        if storyboard.error:
            line += f": {storyboard.error}"
        if printed.get(storyboard.id) != line:
            printed[storyboard.id] = line
            console.print(line, highlight=False, markup=False)
