"""A plan report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables for people."""
    for shot in report["shots"]:
        title = (
            f"{shot['name']}: {shot['frames']} frames, {shot['latents']} latents, "
            f"{_cost(shot['estimate'])}"
        )
        if (coarse := shot["coarse"]) is not None:
            first = (
                f"{shot['name']}, coarse: one frame in {coarse['stride']}, {coarse['frames']} "
                f"frames, {_cost(coarse['estimate'])}"
            )
            console.print(_table(first, coarse["segments"], coarse["conditions"]))
            title += f", refined in {shot['run_steps']} of {report['steps']} steps"
        console.print(_table(title, shot["segments"], shot["conditions"]))
        if (upscaled := shot["upscaled"]) is not None:
            width, height = report["upscale"]["size"]
            title = f"{shot['name']} at {width}x{height}: {_cost(upscaled['estimate'])}"
            console.print(_table(title, upscaled["segments"], shot["conditions"]))
        if shot["loop"]:
            console.print(_loop(shot))
        if shot["draft"] is not None:
            draft = f"Drafted from {shot['draft']!r}, noised to {shot['strength']:g}"
            console.print(escape(f"{draft}: fewer steps than the estimate has"))
    model = report["model"]
    console.print(
        f"{report['steps']} steps at guidance {report['guidance']:g}, by the conditions "
        f"{report['image_guidance']:g}; windows of at most {model['window_latents']} latents, "
        f"{model['tail_latents']} of them the last one's tail"
    )
    if (upscale := report["upscale"]) is not None:
        tiles = f"{upscale['tiles']} tiles" if upscale["tiles"] > 1 else "one tile"
        console.print(
            f"Upscaled by {upscale['scale']:g}: the last {upscale['run_steps']} of "
            f"{upscale['steps']} steps at guidance {upscale['guidance']:g}, in {tiles}"
        )
    console.print(
        f"In all: {_cost(report['estimate'])}, if the machine reaches "
        f"{report['flops_per_second'] / 1e12:.3g} TFLOPS. Text and autoencoder come on top."
    )


def _table(
    title: str, segments: Sequence[Mapping[str, Any]], conditions: Sequence[Mapping[str, Any]]
) -> Table:
    """A stage's segments."""
    table = Table(title=escape(title), title_justify="left")
    for column in ("segment", "latents", "seconds", "tail"):
        table.add_column(column, justify="right")
    table.add_column("conditions")
    table.add_column("prompt", ratio=1)
    for segment in segments:
        given = [conditions[index] for index in segment["conditions"]]
        table.add_row(
            str(segment["index"] + 1),  # as progress and `status` count them
            f"{segment['start']}–{segment['stop'] - 1}",
            "–".join(f"{seconds:.2f}" for seconds in segment["seconds"]),
            str(segment["tail"]),
            escape("\n".join(f"{_span(each)} {Path(each['file']).name}" for each in given)),
            escape(segment["prompt"]),
        )
    return table


def _loop(shot: Mapping[str, Any]) -> str:
    asked, frames, head = shot["asked_frames"], shot["frames"], shot["segments"][-1]["head"]
    rounded = "" if asked == frames else f"{asked} frames asked for, {frames} shown: "
    rule = "a loop has a multiple of four; " if rounded else ""
    return (
        f"Loops: {rounded}{rule}the last segment is given the film's first {head} latents at its "
        "end, and what comes after the last frame is left away"
    )


def _span(condition: Mapping[str, Any]) -> str:
    first, frames = condition["frame"], condition["frames"]
    return str(first) if frames == 1 else f"{first}–{first + frames - 1}"


def _cost(cost: Mapping[str, Any]) -> str:
    seconds = cost["seconds"]
    length = f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.1f} min"
    return f"about {length} and {cost['bytes'] / 2**30:.3g} GiB"
