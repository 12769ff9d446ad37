"""The cut discriminator rates films of any size and length, and separates cuts from motion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dreamontage.scorer import discriminator
from dreamontage.scorer.discriminator import REACH, WEIGHTS, CutDiscriminator, load
from dreamontage.training.scorers import discriminator as training
from dreamontage.training.synthetic import worlds
from tests.support.scorer_films import Pixels, barely_trained, camera, dissolve, pan, world


def video(frames_THWC: Pixels) -> Tensor:
    return torch.from_numpy(frames_THWC).movedim(-1, 0)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def model() -> CutDiscriminator:
    return load()


def test_a_films_numbers_do_not_depend_on_what_is_far_away(model: CutDiscriminator) -> None:
    shot = video(pan(0, 81))
    whole = model(shot)[0]
    window = model(shot[:, :, 20:60])[0]
    inside = slice(20 + REACH, 60 - REACH)
    assert torch.allclose(whole[inside], window[REACH:-REACH], atol=1e-4)


def test_a_batch_is_rated_as_its_films_are(model: CutDiscriminator) -> None:
    clips, _, _ = worlds.clips(3, 4, frames=17, height=48, width=64)
    rating = model.rate(clips)
    alone = [model.rate(clip[None]) for clip in clips]
    assert torch.allclose(rating.severity_B, torch.cat([r.severity_B for r in alone]), atol=1e-4)
    assert torch.equal(rating.frame_B, torch.cat([r.frame_B for r in alone]))
    assert torch.allclose(rating.levels_BL.sum(1), torch.ones(4))
    assert (rating.levels_BL >= 0).all()
    expected = (rating.levels_BL * torch.arange(5)).sum(1)
    assert torch.allclose(rating.severity_B, expected, atol=1e-5)
    at = rating.severity_BT.gather(1, rating.frame_B[:, None])[:, 0]
    assert torch.allclose(at, rating.severity_B)


@pytest.mark.parametrize(("frames", "size"), [(9, (16, 16)), (12, (48, 48)), (33, (144, 256))])
def test_any_size_and_length(model: CutDiscriminator, frames: int, size: tuple[int, int]) -> None:
    clips, _, _ = worlds.clips(1, 2, frames=frames, height=size[0], width=size[1])
    rating = model.rate(clips)
    assert rating.severity_BT.shape == (2, frames)
    assert (rating.frame_B > 0).all()
    with pytest.raises(ValueError, match="frames = 8: the discriminator needs 9"):
        model.rate(clips[:, :, :8])


def test_cuts_are_worse_than_motion_and_are_found_to_the_frame(model: CutDiscriminator) -> None:
    """On films made by other code than the training's."""
    shot, other = pan(0, 49), pan(50, 49)
    whip = camera(world(0), 17, start=(0.2, 0.4, 1.0), stop=(0.8, 0.6, 1.0))
    for good in (shot, whip, camera(world(1), 49, stop=(0.5, 0.5, 2.5)), barely_trained(shot)):
        assert model.rate(video(good)).severity_B < 1.0
    cut = shot.copy()
    cut[30:] = other[:19]
    for film in (cut, barely_trained(cut)):
        rating = model.rate(video(film))
        assert rating.severity_B > 3.0
        assert abs(int(rating.frame_B) - 30) <= 1
    short, long = (cut.copy() for _ in range(2))
    short[22:30] = dissolve(shot[22], other[0], 10)[1:-1]
    long[10:40] = dissolve(shot[10], other[0], 32)[1:-1]
    long[40:] = other[:9]
    order = [model.rate(video(film)).severity_B for film in (cut, short, long, shot)]
    assert order == sorted(order, reverse=True)


def test_training_lowers_the_loss_and_repeats() -> None:
    recipe = training.scorer_cuts_smoke()
    first, again = (training.train(recipe, codec=None) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    labelled = training.draw(0, 8, frames=17, height=32, width=32, codec=None)
    torch.manual_seed(0)
    model = CutDiscriminator(8)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        mean = training.loss(model, labelled).mean()
        optimiser.zero_grad()
        mean.backward()
        optimiser.step()
        losses.append(float(mean.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_the_weights_say_how_they_were_made() -> None:
    assert WEIGHTS.stat().st_size < 2_000_000
    with safe_open(WEIGHTS, "pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert recipe["name"] in training.RECIPES
    assert discriminator.__doc__
    with pytest.raises(ValueError, match="is not there: train it"):
        load(Path("nowhere.safetensors"))
