"""Pictures as a bank of squares for surfaces of worlds.

Shapes: N squares, H = W pixels.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

_SIZE = 256
_KINDS = (".jpg", ".jpeg", ".png", ".webp")


def load_photos(folder: Path, *, crops: int = 1) -> Tensor:
    """Every picture of a folder as squares, (N, 3, 256, 256) in [0, 1], by name order.

    The first square is the middle of the whole picture. The other `crops` - 1 are random squares of
    at least 256 pixels or a third of the picture's shorter side.

    Raises:
        ValueError: for a missing folder, a folder without pictures, or an unreadable picture.
    """
    if not folder.is_dir():
        raise ValueError(f"photos = {folder}: there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _KINDS)
    if not files:
        raise ValueError(f"{folder} holds no pictures")
    rng = random.Random(0)
    squares = []
    for file in files:
        try:
            with Image.open(file) as picture:
                whole = picture.convert("RGB")
        except OSError as error:
            raise ValueError(f"{file}: is no picture that can be read ({error})") from None
        squares.append(ImageOps.fit(whole, (_SIZE, _SIZE)))
        short = min(whole.size)
        for _ in range(crops - 1):
            side = rng.randint(min(short, max(_SIZE, short // 3)), short)
            left, top = (rng.randint(0, length - side) for length in whole.size)
            box = (left, top, left + side, top + side)
            squares.append(whole.resize((_SIZE, _SIZE), box=box))
    return torch.stack([torch.from_numpy(np.array(s)).movedim(-1, 0) / 255 for s in squares])
