"""Pictures in each form that a user may give, and the one form that the model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image

from dreamontage.sampling.conditioning.model_inputs import fitted_picture
from dreamontage.sampling.conditioning.modes import ConditioningMode
from dreamontage.sampling.conditioning.pictures import Picture, as_image, pixels

ARRAY_HWC = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
IMAGE = Image.fromarray(ARRAY_HWC)
TENSOR_CHW = torch.from_numpy(ARRAY_HWC.copy()).permute(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize("picture", [ARRAY_HWC, IMAGE, TENSOR_CHW], ids=["array", "PIL", "tensor"])
def test_each_form_is_the_same_image(picture: Picture) -> None:
    image = as_image(picture)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), ARRAY_HWC)


def test_an_image_of_another_mode_becomes_rgb() -> None:
    assert np.asarray(as_image(Image.new("L", (2, 1), 7))).tolist() == [[[7] * 3, [7] * 3]]


def test_a_tensor_is_rounded_to_the_nearest_level_and_clamped() -> None:
    """-1 is level 0, 1 is 255, 0 lies between 127 and 128; a decoder goes past both ends."""
    values = torch.tensor([-1.5, -1.0, -1 + 1.6 / 127.5, 0.0, 1.0, 1.5])
    image = as_image(values.expand(3, 1, 6))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 2, 128, 255, 255]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (ARRAY_HWC[0], r"^a picture given as an array must be uint8 .*, and is uint8 \(16, 3\)$"),
        (ARRAY_HWC[..., :2], r"must be uint8 \(height, width, 3\), and is uint8 \(8, 16, 2\)$"),
        (ARRAY_HWC.astype(np.float32), r"and is float32 \(8, 16, 3\)$"),
        ("a.png", r"^a picture must be a PIL image, an array or a tensor, and is 'a\.png': open "),
    ],
)
def test_what_is_no_picture_is_refused(picture: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_image(picture)


def test_pixels_are_those_of_diffusers() -> None:
    processor = VideoProcessor(vae_scale_factor=8)
    video_BCTHW = pixels([IMAGE, ARRAY_HWC, TENSOR_CHW], 8, 16)
    assert video_BCTHW.shape == (1, 3, 3, 8, 16)
    expected_CHW = processor.preprocess(IMAGE, height=8, width=16)[0]
    for frame in (0, 1):
        assert torch.equal(video_BCTHW[0, :, frame], expected_CHW)
    assert torch.equal(video_BCTHW[0, :, 2], TENSOR_CHW)
    assert pixels([TENSOR_CHW.double()], 8, 16).dtype is torch.float32


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"condition's picture is 16x8, the shot is 32x16$"):
        pixels([IMAGE], 16, 32)
    with pytest.raises(ValueError, match=r"condition's picture is 16x8, the shot is 16x16$"):
        pixels([TENSOR_CHW], 16, 16)


def test_a_picture_is_fitted_as_diffusers_does_it_and_a_tensor_stays() -> None:
    processor = VideoProcessor(vae_scale_factor=8)
    fitted_CHW = fitted_picture(IMAGE, processor, 16, 24)
    assert torch.equal(fitted_CHW, processor.preprocess(IMAGE, height=16, width=24)[0])
    assert fitted_picture(TENSOR_CHW, processor, 16, 24) is TENSOR_CHW


@pytest.mark.parametrize(
    ("channels", "expand", "mode"),
    [
        (36, False, ConditioningMode.CHANNELS),
        (16, False, ConditioningMode.TEXT_ONLY),
        (20, False, ConditioningMode.TEXT_ONLY),
        (48, True, ConditioningMode.CLEAN_LATENTS),
        (36, True, ConditioningMode.CLEAN_LATENTS),
    ],
)
def test_a_config_says_how_conditions_are_taken(
    channels: int, expand: bool, mode: ConditioningMode
) -> None:
    found = ConditioningMode.from_config(in_channels=channels, z_dim=16, expand_timesteps=expand)
    assert found is mode
