"""`python -m dreamontage.training RECIPE --out DIR`: run a recipe, or go on with one."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dreamontage.training.recipes import RECIPES
from dreamontage.training.trainer import Trainer

_PHOTO_SIZE = 256


def load_photos(folder: Path) -> Tensor:
    """Every picture of a folder as a bank of squares, (N, 3, 256, 256) in [0, 1], by name order.

    Raises ValueError when there is none.
    """
    files = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    )
    if not files:
        raise ValueError(f"{folder} holds no pictures")
    squares = []
    for file in files:
        with Image.open(file) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (_PHOTO_SIZE, _PHOTO_SIZE))
        squares.append(torch.from_numpy(np.array(square)).movedim(-1, 0) / 255)
    return torch.stack(squares)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dreamontage.training", description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument(
        "--out", type=Path, required=True, help="the run's folder; resumes a run it holds"
    )
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument(
        "--steps", type=int, help="stop at this step, counted from the run's first start"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--photos", type=Path, help="pictures to use as worlds too; counts at the first start"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    photos = load_photos(options.photos) if options.photos else None
    Trainer(RECIPES[options.recipe](), options.out, photos=photos).run(
        minutes=options.minutes, steps=options.steps
    )


if __name__ == "__main__":
    main()
