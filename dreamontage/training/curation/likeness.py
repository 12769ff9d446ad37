"""How alike two pictures are: the cosine of their embeddings; the paper uses CLIP's.

The paper drops videos whose first and last frames are alike, because a model learns no transition
from them. `Clip` is the paper's embedding, from a folder in transformers' layout. `Layout` needs no
weights **[ours]**, and does not measure meaning. Two views of one person are alike by CLIP and not
by `Layout`, which only finds videos that stay where they are or return there.

Shapes: H height, W width, C colour (RGB, uint8), D numbers of an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.training.curation.flow import Floats, Pixels

_SIDE = 64
_LAYOUT, _CELLS, _DIRECTIONS, _BINS = 16, 8, 8, 6


class Embedder(Protocol):
    """A picture as a vector whose direction says what it shows."""

    @property
    def name(self) -> str:
        """A name of its own, stored beside the likenesses that it measured."""
        ...

    @property
    def alike(self) -> float:
        """The default limit: from this cosine on, two pictures are alike."""
        ...

    def __call__(self, image_HWC: Pixels) -> NDArray[np.float64]:
        """embedding_D, of any length."""
        ...


def likeness(embed: Embedder, a_HWC: Pixels, b_HWC: Pixels) -> float:
    """The cosine of the two embeddings, 1 for the same picture."""
    a_D, b_D = embed(a_HWC), embed(b_HWC)
    norms = float(np.linalg.norm(a_D) * np.linalg.norm(b_D))
    return float(a_D @ b_D) / norms if norms else 1.0


class Layout:
    """Layout, edges and colours, a third each.

    Three vectors of length 1: a coarse picture less its mean, in Lab; the gradients' directions in
    each of 8 x 8 cells; the square roots of a colour histogram.
    """

    name = "layout-1"
    # On clips of worlds: above 0.9 after a sixteenth of a second, below 0.8 after five seconds.
    alike = 0.9

    def __call__(self, image_HWC: Pixels) -> NDArray[np.float64]:
        small_HWC = cv2.resize(image_HWC, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        lab_HWC = cv2.cvtColor(small_HWC.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        coarse_HWC = cv2.resize(lab_HWC, (_LAYOUT, _LAYOUT), interpolation=cv2.INTER_AREA)
        layout = coarse_HWC - coarse_HWC.mean(axis=(0, 1))
        parts = [_unit(layout), _unit(_edges(lab_HWC[..., 0])), _unit(_colours(lab_HWC))]
        return np.concatenate(parts)


def _unit(values: NDArray[np.float64] | Floats) -> NDArray[np.float64]:
    flat = values.astype(np.float64).ravel()
    norm = float(np.linalg.norm(flat))
    return flat / norm if norm > 1e-6 else flat


def _edges(light_HW: Floats) -> NDArray[np.float64]:
    soft_HW = cv2.GaussianBlur(light_HW, (0, 0), 1.0)
    x_HW = cv2.Sobel(soft_HW, cv2.CV_32F, 1, 0)
    y_HW = cv2.Sobel(soft_HW, cv2.CV_32F, 0, 1)
    # An edge has no sign: dark on bright equals bright on dark.
    bins_HW = np.floor(np.mod(np.arctan2(y_HW, x_HW), np.pi) / np.pi * _DIRECTIONS)
    bins_HW = bins_HW.astype(np.int64) % _DIRECTIONS
    rows_HW, columns_HW = np.indices(light_HW.shape) * _CELLS // _SIDE
    index_HW = (rows_HW * _CELLS + columns_HW) * _DIRECTIONS + bins_HW
    weights = np.hypot(x_HW, y_HW).ravel()
    histogram = np.bincount(index_HW.ravel(), weights, _CELLS * _CELLS * _DIRECTIONS)
    return histogram.astype(np.float64)


def _colours(lab_HWC: Floats) -> NDArray[np.float64]:
    lowest, highest = np.array([0, -80, -80]), np.array([100, 80, 80])
    share_HWC = (lab_HWC - lowest) / (highest - lowest) * _BINS
    bins_HWC = np.clip(share_HWC.astype(np.int64), 0, _BINS - 1)
    index_HW = (bins_HWC[..., 0] * _BINS + bins_HWC[..., 1]) * _BINS + bins_HWC[..., 2]
    return np.sqrt(np.bincount(index_HW.ravel(), minlength=_BINS**3) / index_HW.size)


class Clip:
    """CLIP's image embedding, from a folder with a `CLIPModel` and its image processor."""

    alike = 0.95  # the paper gives no number, and we had no CLIP weights to find one

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Raises ValueError when the folder holds no such model."""
        # These imports take seconds, and are only needed with a folder.
        import torch
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        from dreamontage.models.folder import folder_revision

        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder}: holds no CLIP model: there is no config.json in it")
        self.name = f"clip-{folder_revision(folder)[:16]}"
        try:
            self._model = CLIPVisionModelWithProjection.from_pretrained(
                folder, local_files_only=True
            )
            self._process = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: holds no CLIP model ({error})") from None
        self._model = self._model.to(device).eval()
        self._torch = torch

    def __call__(self, image_HWC: Pixels) -> NDArray[np.float64]:
        inputs = self._process(images=image_HWC, return_tensors="pt").to(self._model.device)
        with self._torch.no_grad():
            embedding_BD = self._model(**inputs).image_embeds
        return np.asarray(embedding_BD[0].double().cpu().numpy())
