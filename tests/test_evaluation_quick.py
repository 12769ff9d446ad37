"""The scores that a training run reads: each falls with the fault it is for, and with no other."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.scorer import reference
from dreamontage.training.synthetic import worlds

KEYS = (0, 16, 32)


@pytest.fixture(scope="module")
def truth_BCTHW() -> Tensor:  # noqa: N802
    return worlds.clips(5, 6, frames=33, height=64, width=64)[0]


@pytest.fixture(scope="module")
def given_BT() -> Tensor:  # noqa: N802
    given_BT = torch.zeros(6, 33, dtype=torch.bool)
    given_BT[:, KEYS] = True
    return given_BT


def cross_fade(truth_BCTHW: Tensor) -> Tensor:
    made = truth_BCTHW.clone()
    for first, last in pairwise(KEYS):
        for frame in range(first, last):
            share = (frame - first) / (last - first)
            made[:, :, frame] = torch.lerp(truth_BCTHW[:, :, first], truth_BCTHW[:, :, last], share)
    return made


def blurred(video_BCTHW: Tensor) -> Tensor:
    return F.avg_pool3d(video_BCTHW, (1, 5, 5), 1, (0, 2, 2), count_include_pad=False)


def mosaic(video_BCTHW: Tensor) -> Tensor:
    cells = F.avg_pool3d(video_BCTHW, (1, 8, 8))
    return cells.repeat_interleave(8, 3).repeat_interleave(8, 4)


def means(made: Tensor, truth: Tensor, given: Tensor) -> dict[str, float]:
    found = reference.scores(made, truth, given_BT=given)
    assert all(value.shape == (len(made),) for value in found.values())
    return {name: float(value.mean()) for name, value in found.items()}


def test_the_true_film_is_perfect(truth_BCTHW: Tensor, given_BT: Tensor) -> None:
    found = means(truth_BCTHW, truth_BCTHW, given_BT)
    assert found["psnr"] >= 60
    assert found["motion_error"] == 0
    for name in ("motion", "motion_amount", "flicker", "sharpness", "blocks"):
        assert found[name] == pytest.approx(1, abs=1e-3), name


def test_blur_costs_sharpness_and_no_motion(truth_BCTHW: Tensor, given_BT: Tensor) -> None:
    found = means(blurred(truth_BCTHW), truth_BCTHW, given_BT)
    assert found["sharpness"] < 0.8
    assert found["motion"] > 0.95


def test_a_cross_fade_has_a_good_psnr_and_little_motion(
    truth_BCTHW: Tensor, given_BT: Tensor
) -> None:
    fade, soft = cross_fade(truth_BCTHW), blurred(cross_fade(truth_BCTHW))
    assert means(fade, truth_BCTHW, given_BT)["psnr"] > 18
    for control in (fade, soft):
        found = means(control, truth_BCTHW, given_BT)
        assert found["motion"] < 0.5
        assert found["motion_error"] > 0.8


def test_a_film_that_runs_backwards_moves_the_wrong_way(
    truth_BCTHW: Tensor, given_BT: Tensor
) -> None:
    found = means(truth_BCTHW.flip(2), truth_BCTHW, given_BT)
    assert found["motion"] < 0
    assert found["motion_amount"] == pytest.approx(1, abs=0.15)


def test_a_still_film_does_not_move(truth_BCTHW: Tensor, given_BT: Tensor) -> None:
    found = means(truth_BCTHW[:, :, :1].expand_as(truth_BCTHW), truth_BCTHW, given_BT)
    assert abs(found["motion"]) < 1e-3
    assert found["motion_amount"] < 1e-3
    assert found["motion_error"] == pytest.approx(1, abs=1e-3)


def test_a_mosaic_shows_in_blocks_and_is_not_sharp(truth_BCTHW: Tensor, given_BT: Tensor) -> None:
    found = means(mosaic(truth_BCTHW), truth_BCTHW, given_BT)
    assert found["blocks"] > 5
    assert found["sharpness"] < 0.1


def test_light_that_jumps_every_latent_flickers(truth_BCTHW: Tensor, given_BT: Tensor) -> None:
    pulse_T = (torch.arange(33) // 4 % 2).float() * 0.1
    found = means((truth_BCTHW * 0.9 + pulse_T[:, None, None]), truth_BCTHW, given_BT)
    assert found["flicker"] > 2
    assert found["motion"] > 0.9


def test_what_was_given_does_not_count(truth_BCTHW: Tensor, given_BT: Tensor) -> None:
    made = blurred(truth_BCTHW)
    copied = made.clone()
    copied[:, :, KEYS] = truth_BCTHW[:, :, KEYS]
    for name in ("psnr", "sharpness", "blocks"):
        assert torch.allclose(
            reference.scores(made, truth_BCTHW, given_BT=given_BT)[name],
            reference.scores(copied, truth_BCTHW, given_BT=given_BT)[name],
        )


def test_flow_is_in_pixels_a_frame_and_points_where_things_go() -> None:
    wide = worlds.clips(1, 1, frames=1, height=128, width=128)[0][:, :, 0]
    frames = [wide[:, :, 20:84, 20 - 2 * i : 84 - 2 * i] for i in range(4)]  # things go right by 2
    found = reference.flow(torch.stack(frames, 2))
    assert found.shape == (1, 2, 2, 8, 8)
    assert found[:, :, 0, 2:-2, 2:-2].median() == pytest.approx(2, abs=0.2)
    assert found[:, :, 1, 2:-2, 2:-2].median() == pytest.approx(0, abs=0.2)


def test_films_must_match() -> None:
    with pytest.raises(ValueError, match="one shape"):
        reference.scores(torch.zeros(1, 3, 9, 16, 16), torch.zeros(1, 3, 5, 16, 16))
