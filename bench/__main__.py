"""Print the tables: ``python -m bench [memory|speed|states|options|scorer|gate]``, or all."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import diffusers
import torch
import transformers
from rich.console import Console
from rich.table import Table

from bench import gate, memory, models, options, speed, states
from bench.clock import DEVICE, machine
from dreamontage import DreaMontagePipeline
from dreamontage.scorer import Verdict
from dreamontage.training.scorers import comparison
from dreamontage.training.scorers.discriminator import HELD_OUT_SURFACE
from dreamontage.training.synthetic.photos import load_photos

WEIGHTS = Path(__file__).parents[1] / "weights" / "nano"
TABLES = ("memory", "speed", "states", "options", "scorer", "gate")


def show_memory(console: Console) -> None:
    shown = Table(
        *("segments", "frames", "seconds", "CPU seconds a segment"),
        *("loaded MiB", "peak MiB", "grown MiB", "drift MiB"),
        title=f"A shot by its length: weights/nano, {memory.STEPS} steps a segment, on the CPU",
        caption="(ratios to the shortest) loaded: torch and the model; grown: peak less loaded;\n"
        "drift: resident before the last segment less before the third",
    )
    first: dict[str, float] | None = None
    for row in memory.table(WEIGHTS):
        first = first or row

        def beside(value: float, start: float) -> str:
            return f" ({value / start:.2f})"

        each = row["cpu_seconds"] / row["segments"]
        grown = row["peak_mib"] - row["loaded_mib"]
        shown.add_row(
            str(row["segments"]),
            str(row["frames"]),
            f"{row['seconds']:.1f}",
            f"{each:.3f}" + beside(each, first["cpu_seconds"] / first["segments"]),
            f"{row['loaded_mib']:.0f}",
            f"{row['peak_mib']:.0f}" + beside(row["peak_mib"], first["peak_mib"]),
            f"{grown:.0f}",
            f"{row['drift_mib']:+.1f}",
        )
    console.print(shown)


def show_speed(console: Console, folder: Path) -> None:
    shown = Table(
        *("what", "ours", "diffusers'", "ours / diffusers'"),
        title=f"The same film from the same random weights: {models.SHAPE.name}",
        caption=f"medians of {models.SHAPE.turns} turns; the films were compared first: equal",
    )
    for what, mine, others, ratio in speed.table(folder):
        shown.add_row(what, f"{mine * 1e3:.1f} ms", f"{others * 1e3:.1f} ms", f"{ratio:.3f}")
    console.print(shown)


def show_states(console: Console, folder: Path) -> None:
    shown = Table(
        *("state", "size", "to bytes", "from bytes", "both, of a denoise step"),
        title="Storing a denoise state (UniPC), without the disk's or the network's part",
    )
    for what, size, write, read, step in states.table(folder):
        share = f"{(write + read) / step:.1%}" if step is not None else "-"
        shown.add_row(
            what, f"{size / 1e6:.2f} MB", f"{write * 1e3:.2f} ms", f"{read * 1e3:.2f} ms", share
        )
    console.print(shown)


def show_options(console: Console, folder: Path, *, compile: bool) -> None:
    def load() -> DreaMontagePipeline:
        if DEVICE.type == "cuda":
            return models.ours(folder)
        return DreaMontagePipeline.from_pretrained(WEIGHTS)

    big = DEVICE.type == "cuda"
    name = models.SHAPE.name if big else "weights/nano, 25 frames of 64x64"
    shown = Table(
        *("option", "setting", "it says", "resumable", "with / without", "relative error"),
        title=f"Speed options on one segment of 12 steps: {name}",
        caption="seconds of a segment; errors in its latents\n"
        "the first row changes nothing: what it is off 1 is this machine's noise"
        + ("; random weights: a trained model's errors differ" * big),
    )
    rows = options.table(
        load,
        size={"height": 480, "width": 832} if big else {"height": 64, "width": 64},
        latents=9 if big else 7,
        steps=12,
        turns=5,
        compile=compile or big,
    )
    for row in rows:
        ((option, setting),) = row.options.chosen.items()
        text = str(setting)
        shown.add_row(
            option,
            text if len(text) < 40 else text.split("(")[0],
            row.says,
            "yes" if row.resumable else "no",
            f"{row.ratio:.2f}",
            f"{row.error:.1e}" if row.error else "0",
        )
    console.print(shown)


def show_scorer(console: Console, clips: int) -> None:
    names = {
        "seeds": "held-out seeds",
        "surface": f"held-out surface, {HELD_OUT_SURFACE}",
        "photos": "photos as worlds, none of them trained on",
    }
    for each, title in names.items():
        shown = Table(
            *("measure", "AUC, cut or none (95 %)", "levels 3 and 4 or none"),
            *("right, cut or none", "right, five levels", "Spearman with severity"),
            title=f"Cut severity on {title}",
            caption="right: with the thresholds that are best on these clips",
        )
        photos_NCHW = load_photos(gate.EXAMPLES) if each == "photos" else None
        batches = comparison.held_out(each, clips, photos_NCHW=photos_NCHW)
        for row in comparison.rows(batches, comparison.networks()):
            low, high = row.interval
            shown.add_row(
                row.name,
                f"{row.auc:.3f} ({low:.3f} to {high:.3f})",
                f"{row.severe:.3f}",
                f"{row.found:.1%}",
                f"{row.levels:.1%}",
                f"{row.spearman:.2f}",
            )
        console.print(shown)
    shown = Table(
        "fault", "clips", "AUC", "levels off", title="The discriminator, by kind of fault"
    )
    for kind, (count, area, off) in comparison.kinds(clips).items():
        shown.add_row(kind.value, str(count), f"{area:.3f}", f"{off:.2f}")
    console.print(shown)


def show_gate(console: Console, clips: int) -> None:
    shown = Table(
        *("films", "number", "pass", "review", "retake", "held up by"),
        title="The gate on held-out films, with its default limits",
    )
    for rows in (gate.good(clips), gate.faulty(clips)):
        for row in rows:
            shown.add_row(
                row.name,
                str(row.films),
                *(f"{row.verdicts[verdict] / max(1, row.films):.1%}" for verdict in Verdict),
                ", ".join(f"{name} {count}" for name, count in row.reasons.most_common(4)),
            )
        shown.add_section()
    console.print(shown)
    shown = Table("faults", "clean", "as weak models leave them", title="AUC of motion_jolt")
    clean, weak = (gate.motion(clips, weak=each) for each in (False, True))
    for name, area in clean.items():
        shown.add_row(name, f"{area:.3f}", f"{weak[name]:.3f}")
    console.print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("tables", nargs="*", choices=("all", *TABLES), default="all")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile on a CPU too: takes minutes"
    )
    parser.add_argument("--clips", type=int, default=160, help="of each set that scorers rate")
    asked = parser.parse_args()
    tables = TABLES if "all" in asked.tables else asked.tables
    for each in (diffusers.utils.logging, transformers.utils.logging):
        each.set_verbosity_error()
        each.disable_progress_bar()
    torch.manual_seed(0)
    console = Console(width=130)
    console.print(machine())
    with tempfile.TemporaryDirectory() as folder:
        weights = models.save(Path(folder))
        if "memory" in tables:
            show_memory(console)
        if "speed" in tables:
            show_speed(console, weights)
        if "states" in tables:
            show_states(console, weights)
        if "options" in tables:
            show_options(console, weights, compile=asked.compile)
    if "scorer" in tables:
        show_scorer(console, asked.clips)
    if "gate" in tables:
        show_gate(console, asked.clips)


if __name__ == "__main__":
    main()
