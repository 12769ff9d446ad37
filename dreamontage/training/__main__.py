"""`python -m dreamontage.training RECIPE --out DIR`: `dreamontage train` without the studio.

It is for machines that only train, and needs fewer packages. Under `torchrun` it trains with all
processes.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch

from dreamontage.training.runs import NAMES, train
from dreamontage.training.synthetic.photos import load_photos


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dreamontage.training", description=__doc__)
    parser.add_argument("recipe", choices=NAMES)
    parser.add_argument(
        "--out", type=Path, required=True, help="the run's folder; a run in it is continued"
    )
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument(
        "--steps", type=float, default=math.inf, help="stop at this step, from the run's start"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--init", type=Path, help="a model folder to start from")
    parser.add_argument(
        "--photos",
        type=Path,
        help="pictures for surfaces; read at a run's first start only",
    )
    parser.add_argument("--crops", type=int, default=1, help="squares to cut from each picture")
    parser.add_argument("--data", type=Path, help="what `dreamontage curate` made")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        train(
            options.recipe,
            options.out,
            minutes=options.minutes,
            steps=options.steps,
            init=options.init,
            photos=load_photos(options.photos, crops=options.crops) if options.photos else None,
            data=options.data,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
