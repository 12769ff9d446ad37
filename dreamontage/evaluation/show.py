"""The report as tables for people and as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dreamontage.evaluation import names
from dreamontage.evaluation.judge import Aspect, Preference
from dreamontage.evaluation.report import FEWEST, Holds, Report, Row
from dreamontage.evaluation.statistics import LEVEL, NOTHING, Estimate
from dreamontage.evaluation.tasks import Kind
from dreamontage.files import write_text

# What the paper's people said of its own full-size model, against others or other stages: not the
# same question at nano size, but the same sign is hoped for.
PAPER = {
    "multi-keyframe": "the paper, overall: +15.79 against Vidu Q2, +28.95 against Pixverse V5",
    "first-last": "the paper, overall: +3.97 against Kling 2.5",
    "SFT": "the paper: visual 0.00, motion +24.58, prompt +5.93, overall +20.34",
    "DPO": "the paper: cuts +12.59, subject motion +13.44",
    "Shared-RoPE": "the paper: visual +53.55",
    "adaptive tuning": "the paper gives no figure",
    "clip conditions": "the paper gives no figure",
    "SAR": "the paper gives no figure",
}
TITLES = {
    "multi-keyframe": "Table 1. Four keyframes: ours against controls",
    "first-last": "Table 2. First and last frame: ours against controls",
    "SFT": "Table 3a. Visual Expression SFT against adaptive tuning alone",
    "DPO": "Table 3b. Tailored DPO against SFT",
    "Shared-RoPE": "Table 4. Super-resolution: Shared-RoPE against channels alone",
    "adaptive tuning": "Table 5a. Adaptive tuning against the untuned base",
    "clip conditions": "Table 5b. Clips as conditions: ours against controls",
    "SAR": "Table 5c. Handing over latents against handing over pixels",
}
COLUMNS = {
    "motion": "motion",
    "motion_error": "error",
    "motion_amount": "amount",
    "camera": "camera",
    "texture": "texture",
    "sharpness": "sharp",
    "flicker": "flicker",
    "blocks": "blocks",
    "pulse": "pulse",
    "fidelity": "fidelity",
    "cut_strength": "cuts",
    "psnr": "PSNR",
}
LONG = {
    "seam": "seam",
    "drift": "drift",
    "seam_any": "any seam",
    "pulse": "pulse",
    "saturation": "saturation",
    "flicker": "flicker",
    "sharpness": "sharp",
    "motion_amount": "amount",
}
LARGE = {"colour_near": "colour near", "flicker_near": "flicker near"}
WIDTH = 175
"""Columns that the widest table needs."""

_MARKS = {
    Holds.YES: "[green]yes[/]",
    Holds.UNPROVEN: "[yellow]unproven[/]",
    Holds.NO: "[red]no[/]",
}


def show(found: Report, console: Console) -> None:
    """Print every table, and the verdict last."""
    for kind, methods in found.scores.items():
        columns = COLUMNS
        if kind in (Kind.LONG_FREE, Kind.LONG_KEYED):
            columns = LONG
        elif kind is Kind.LARGE:
            columns = LARGE | COLUMNS
        _show_scores(kind, methods, columns, console)
    for label, methods in found.apart.items():
        _show_scores(f"{Kind.FOUR}, {label} alone", methods, COLUMNS, console)
    for title in dict.fromkeys(row.table for row in found.rows):
        _show_rows(title, [row for row in found.rows if row.table == title], console)
    _show_prompts(found, console)
    if found.left_out:
        console.print("Left out, for no folder was given: " + "; ".join(found.left_out) + ".")
    _show_verdict(found, console)


def _show_scores(
    title: str,
    methods: Mapping[str, Mapping[str, Estimate]],
    columns: Mapping[str, str],
    console: Console,
) -> None:
    shown = Table(
        title=f"Scores: {title}",
        caption="of the true film error, texture, cuts and colour near are 0, drift is what it is, "
        f"the rest 1; {LEVEL:.0%} bootstrap intervals over films, and not every method makes all",
        box=box.SIMPLE_HEAD,
    )
    for column in ("", "films", *columns.values()):
        shown.add_column(column, no_wrap=True)
    for name, scores in methods.items():
        cells = [
            _figure(scores.get(column, NOTHING), interval=number < 2)
            for number, column in enumerate(columns)
        ]
        style = "bold" if name == names.OURS else None
        shown.add_row(name, str(next(iter(scores.values())).clips), *cells, style=style)
    console.print(shown)


def _figure(estimate: Estimate, *, interval: bool) -> str:
    if math.isnan(estimate.value):
        return "-"
    return str(estimate) if interval else f"{estimate.value:.2f}"


def _show_rows(table: str, rows: list[Row], console: Console) -> None:
    aspects: list[Aspect] = list(rows[0].aspects)
    shown = Table(
        "ours" if rows[0].mine == names.OURS else "first",
        "against",
        "on",
        *aspects,
        title=f"{TITLES[table]} (GSB, per cent)",
        caption=f"wins/ties/losses and {LEVEL:.0%} intervals below; {PAPER[table]}",
    )
    for row in rows:
        shown.add_row(
            row.mine, row.theirs, row.kind, *(_gsb(row.aspects[aspect]) for aspect in aspects)
        )
    console.print(shown)


def _gsb(found: Preference) -> str:
    gsb = found.gsb
    interval = f" [{100 * gsb.low:+.0f}, {100 * gsb.high:+.0f}]" if gsb.clips > 1 else ""
    return f"{100 * gsb.value:+.1f}{interval}\n{found.wins}/{found.ties}/{found.losses}"


def _show_prompts(found: Report, console: Console) -> None:
    shown = Table(
        *("", "pictures", "right move", "by chance", "turns with the prompt", "by chance"),
        title="A first frame and one of twelve camera moves in words",
        caption="right move: films whose camera went as asked; turns: pairs of one picture and one "
        "noise, of which the one goes\nfarther as asked than the one that was asked for the "
        "opposite; by chance: the same for prompts dealt out anew",
    )
    for row in found.prompts:
        shown.add_row(
            row.method,
            str(row.accuracy.clips),
            str(row.accuracy),
            f"{row.by_chance:.2f}",
            _figure(row.turned, interval=True),
            "-" if math.isnan(row.turned_by_chance) else f"{row.turned_by_chance:.2f}",
            style="bold" if row.method == names.OURS else None,
        )
    console.print(shown)


def _show_verdict(found: Report, console: Console) -> None:
    shown = Table(
        *("criterion", "figure", "bound", "holds", ""),
        title=f"Shippable: {'yes' if found.shippable else 'no'}",
        caption=f"yes only where the whole interval, of {FEWEST} or more, keeps to the bound",
    )
    for each in found.criteria:
        shown.add_row(
            each.name,
            _figure(each.figure, interval=True),
            f"{'>' if each.least else '<'} {each.bound:g}",
            _MARKS[each.holds],
            each.detail,
        )
    console.print(shown)


def as_json(found: Report, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that `show` prints, and what it was made from."""

    def figures(tables: Mapping[Any, Mapping[str, Mapping[str, Estimate]]]) -> dict[str, Any]:
        return {
            kind: {
                name: {score: asdict(estimate) for score, estimate in scores.items()}
                for name, scores in methods.items()
            }
            for kind, methods in tables.items()
        }

    return {
        "facts": dict(facts),
        "scores": figures(found.scores),
        "apart": figures(found.apart),
        "preferences": [asdict(row) for row in found.rows],
        "prompts": [asdict(row) for row in found.prompts],
        "left_out": found.left_out,
        "shippable": {
            "verdict": found.shippable,
            "criteria": [asdict(each) | {"holds": each.holds} for each in found.criteria],
        },
    }


def write_json(path: Path, found: Report, facts: Mapping[str, Any]) -> None:
    """NaN, which is no JSON, becomes null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    write_text(path, json.dumps(clean(as_json(found, facts)), indent=1) + "\n")
