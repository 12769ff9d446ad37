"""Stock Wan checkpoints give, through our pipeline, the film that diffusers' own pipelines give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanPipeline
from PIL import Image

from dreamontage import DreaMontagePipeline, Keyframe

SIZE = {"height": 32, "width": 48}
CALL = {"prompt": "a cat", "negative_prompt": "blur", "num_frames": 9, "num_inference_steps": 4}


def still(seed: int, width: int = 48, height: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_scheduler(pipe, name: str):
    if name == "euler":
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(11)


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("last", [False, True])
def test_first_and_last_frame(tiny_i2v, scheduler, guidance, last):
    theirs = with_scheduler(WanImageToVideoPipeline.from_pretrained(tiny_i2v), scheduler)
    ours = with_scheduler(DreaMontagePipeline.from_pretrained(tiny_i2v), scheduler)
    # One picture is not of the film's size, so that resizing is compared too.
    first, final = still(1, 64, 40), still(2)
    expected = theirs(
        image=first,
        last_image=final if last else None,
        guidance_scale=guidance,
        generator=generator(),
        **CALL,
        **SIZE,
    ).frames
    conditions = [Keyframe(image=first, frame=0)]
    if last:
        conditions.append(Keyframe(image=final, frame=8))
    got = ours(
        conditions=conditions, guidance_scale=guidance, generator=generator(), **CALL, **SIZE
    ).frames
    assert np.array_equal(got, expected)


def test_two_experts(tiny_a14b):
    theirs = with_scheduler(WanImageToVideoPipeline.from_pretrained(tiny_a14b), "unipc")
    ours = DreaMontagePipeline.from_pretrained(tiny_a14b)
    guidances = {"guidance_scale": 4.0, "guidance_scale_2": 2.5}
    expected = theirs(image=still(1), generator=generator(), **guidances, **CALL, **SIZE).frames
    conditions = [Keyframe(image=still(1), frame=0)]
    got = ours(conditions=conditions, generator=generator(), **guidances, **CALL, **SIZE).frames
    assert np.array_equal(got, expected)
    one = ours(conditions=conditions, generator=generator(), guidance_scale=4.0, **CALL, **SIZE)
    assert not np.array_equal(one.frames, expected), "the second expert's guidance must count"


def test_text_alone(tiny_t2v):
    theirs = with_scheduler(WanPipeline.from_pretrained(tiny_t2v), "unipc")
    ours = DreaMontagePipeline.from_pretrained(tiny_t2v)
    expected = theirs(guidance_scale=4.0, generator=generator(), **CALL, **SIZE).frames
    got = ours(guidance_scale=4.0, generator=generator(), **CALL, **SIZE).frames
    assert np.array_equal(got, expected)
    with pytest.raises(ValueError, match="takes no conditions"):
        ours(conditions=[Keyframe(image=still(1), frame=0)], **CALL, **SIZE)


def test_faults_are_named(tiny_i2v, tmp_path):
    ours = DreaMontagePipeline.from_pretrained(tiny_i2v)
    with pytest.raises(ValueError, match=r"conditions\[0\] reaches frame 9, past the shot's last frame, 8"):
        ours(conditions=[Keyframe(image=still(1), frame=9)], **CALL, **SIZE)
    with pytest.raises(ValueError, match="multiples of 16"):
        ours(**CALL, height=40, width=48)
    with pytest.raises(ValueError, match="holds no model_index.json"):
        DreaMontagePipeline.from_pretrained(tmp_path)


def test_a_tuned_folder_reloads_as_itself(tiny_i2v, tmp_path):
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    pipe.register_to_config(conditioning="interm", window_latents=3, tail_latents=1)
    pipe.save_pretrained(tmp_path / "ours")
    again = DreaMontagePipeline.from_pretrained(tmp_path / "ours")
    assert again.config.conditioning == "interm"
    assert again.geometry.window_latents == 3
    call = CALL | SIZE | {"conditions": [Keyframe(image=still(1), frame=5)], "num_frames": 18}
    assert np.array_equal(pipe(**call).frames, again(**call).frames)
    assert again(**call).frames.shape == (1, 18, 32, 48, 3)
