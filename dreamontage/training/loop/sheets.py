"""Sample sheets: films side by side, a row each, as a PNG.

Shapes: T frames, C colours, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_COLUMNS = 9
_GAP = 4


def draw(path: Path, groups: Sequence[Sequence[Tensor]]) -> None:
    """Write rows of nine frames, from films video_CTHW in [-1, 1], with gaps between groups."""
    rows: list[np.ndarray] = []
    for group in groups:
        made = [_row(video_CTHW) for video_CTHW in group]
        rows += [*made[:-1], np.pad(made[-1], ((0, _GAP), (0, 0), (0, 0)))]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded)).save(path)


def _row(video_CTHW: Tensor) -> np.ndarray:
    """Frames of one film side by side, (H, columns * W, 3) uint8."""
    pick = torch.linspace(0, video_CTHW.shape[1] - 1, _COLUMNS).round().long()
    frames_HTWC = video_CTHW.float().cpu()[:, pick].permute(2, 1, 3, 0)
    row = ((frames_HTWC + 1) * 127.5).round().clamp(0, 255).byte().flatten(1, 2)
    return np.asarray(row.numpy())
