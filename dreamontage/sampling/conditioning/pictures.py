"""A condition's pictures: the forms a user may give them in, and the one the model takes.

Shape legend: B batch, C = 3 colours, T pixel frames, H W height and width. Pixels inside the model
code are floats in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Picture = Image.Image | np.ndarray | Tensor
"""A PIL image, uint8 (H, W, 3), or a float tensor (3, H, W) in [-1, 1]."""


def as_image(picture: Picture) -> Image.Image:
    """The picture as an RGB image of eight bits.

    Raises:
        ValueError: for an array that is not uint8 (H, W, 3), and for what is no picture: a path.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, Tensor):
        picture = (picture.permute(1, 2, 0) * 127.5 + 127.5).round().clamp(0, 255)
        return Image.fromarray(picture.to("cpu", torch.uint8).numpy())
    if not isinstance(picture, np.ndarray):
        raise ValueError(
            "a picture must be a PIL image, an array or a tensor, and is "
            f"{picture!r}: open files first, as with PIL.Image.open"
        )
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"a picture given as an array must be uint8 (height, width, 3), and is "
            f"{picture.dtype} {picture.shape}"
        )
    return Image.fromarray(picture)


def pixels(pictures: Sequence[Picture], height: int, width: int) -> Tensor:
    """Stack pictures into video_BCTHW, B = 1.

    Raises:
        ValueError: if a picture is not ``height`` x ``width``: fitting is the caller's choice.
    """
    frames = []
    for picture in pictures:
        if isinstance(picture, Tensor):
            frame_CHW = picture.float()
        else:
            array_HWC = np.asarray(as_image(picture)).astype(np.float32) / 255.0
            # As diffusers' VideoProcessor computes it, so that bits agree.
            frame_CHW = 2.0 * torch.from_numpy(array_HWC).permute(2, 0, 1) - 1.0
        if frame_CHW.shape[1:] != (height, width):
            raise ValueError(
                f"a condition's picture is {frame_CHW.shape[2]}x{frame_CHW.shape[1]}, "
                f"the shot is {width}x{height}"
            )
        frames.append(frame_CHW)
    return torch.stack(frames, dim=1)[None]
