"""Print the tables: ``python -m bench``."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench import memory, speed

WEIGHTS = Path(__file__).parents[1] / "weights" / "nano"


def main() -> None:
    console = Console()
    console.print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}"
    )
    rows = memory.table(WEIGHTS)
    shown = Table("segments", "seconds", "seconds a segment", "peak MiB", "peak over the first")
    for row in rows:
        shown.add_row(
            str(row["segments"]),
            f"{row['seconds']:.1f}",
            f"{row['seconds'] / row['segments']:.2f}",
            f"{row['peak_mib']:.0f}",
            f"{row['peak_mib'] / rows[0]['peak_mib']:.3f}",
        )
    console.print("A shot's memory and time by its length", shown)
    shown = Table("what", "ours / diffusers")
    for what, ratio in speed.table().items():
        shown.add_row(what, f"{ratio:.2f}")
    console.print("The same film from the same weights, in turns", shown)


if __name__ == "__main__":
    main()
