"""Optical flow finds where things went, in pictures of any shape."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dreamontage.media.optical_flow import DenseFlow, Pixels, grid, inside, places, sample, warp


def texture(height: int, width: int, shift: int = 0) -> Pixels:
    """A smooth random picture, in grey, moved to the right."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width + 8), dtype=np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    stretched = cv2.normalize(soft, None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(stretched[:, 8 - shift : 8 - shift + width], dtype=np.uint8)


@pytest.mark.parametrize("preset", ["fast", "medium"])
@pytest.mark.parametrize(
    ("height", "width"), [(96, 128), (128, 96), (64, 80), (16, 128), (17, 200), (128, 16), (12, 12)]
)
def test_flow_leads_from_each_pixel_to_its_place(preset: str, height: int, width: int) -> None:
    """Ribbons too: OpenCV itself ends the process for a picture of 128 x 16."""
    flow_HW2 = DenseFlow(preset)(texture(height, width), texture(height, width, shift=2))  # type: ignore[arg-type]
    assert flow_HW2.shape == (height, width, 2)
    assert flow_HW2.dtype == np.float32
    assert np.isfinite(flow_HW2).all()
    if min(height, width) >= 64:
        assert np.median(flow_HW2[..., 0]) == pytest.approx(2, abs=0.3)
        assert np.median(flow_HW2[..., 1]) == pytest.approx(0, abs=0.3)


def test_a_picture_is_warped_to_where_its_flow_begins() -> None:
    values_HW = np.arange(20, dtype=np.float32).reshape(4, 5)
    flow_HW2 = np.full((4, 5, 2), (1, 0), np.float32)
    assert warp(values_HW, flow_HW2)[:, :-1].tolist() == values_HW[:, 1:].tolist()
    assert warp(values_HW, flow_HW2)[:, -1].tolist() == values_HW[:, -1].tolist(), "the border's"
    outside_HW = sample(values_HW, places(flow_HW2), border=cv2.BORDER_CONSTANT)[:, -1]
    assert not outside_HW.any()


def test_places_beyond_the_picture_are_not_inside() -> None:
    assert places(np.zeros((3, 4, 2), np.float32)).tolist() == grid(3, 4).tolist()
    moved_HW = inside(places(np.full((3, 4, 2), (-1, 0.5), np.float32)))
    assert moved_HW.astype(int).tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
