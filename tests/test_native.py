"""Stock Wan checkpoints give, through our pipeline, the film that diffusers' own pipelines give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from PIL import Image

from dreamontage import Clip, DreaMontagePipeline, Keyframe

SIZE: dict[str, Any] = {"height": 32, "width": 48}
CALL: dict[str, Any] = {
    "prompt": "a cat",
    "negative_prompt": "blur",
    "num_frames": 9,
    "num_inference_steps": 3,
    "max_sequence_length": 32,
}
# Each scheduler and each way of guidance, but not every pair of them.
KINDS = pytest.mark.parametrize(
    ("scheduler", "guidance"), [("unipc", 4.0), ("euler", 4.0), ("unipc", 1.0)]
)


def still(seed: int, width: int = 48, height: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def loaded(kind: Any, folder: Path, scheduler: str = "unipc") -> Any:
    """A pipeline whose autoencoder computes in double precision.

    We decode a latent at a time, diffusers all of them at once; on some processors a convolution's
    last bit depends on the shape that it is asked for. In double precision that bit is far below
    what is compared.
    """
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float64)
    pipe = kind.from_pretrained(folder, vae=vae)
    if scheduler == "euler":
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal to the bit of a float32, but that ours is rounded to one before the last step."""
    return got.shape == expected.shape and bool(np.abs(got - expected).max() <= 2**-24)


def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(11)


@KINDS
@pytest.mark.parametrize("last", [False, True])
def test_first_and_last_frame(tiny_i2v: Path, scheduler: str, guidance: float, last: bool) -> None:
    theirs = loaded(WanImageToVideoPipeline, tiny_i2v, scheduler)
    ours = loaded(DreaMontagePipeline, tiny_i2v, scheduler)
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
    assert same(got, expected)


@KINDS
def test_first_frame_with_an_image_encoder(
    tiny_i2v_clip: Path, scheduler: str, guidance: float
) -> None:
    theirs = loaded(WanImageToVideoPipeline, tiny_i2v_clip, scheduler)
    ours = loaded(DreaMontagePipeline, tiny_i2v_clip, scheduler)
    call = CALL | SIZE | {"guidance_scale": guidance, "max_sequence_length": 512}
    # CLIP sees the picture as it was given, before it is resized for the film.
    first = still(1, 64, 40)
    expected = theirs(image=first, generator=generator(), **call).frames
    got = ours(conditions=[Keyframe(image=first, frame=0)], generator=generator(), **call).frames
    assert same(got, expected)


@KINDS
def test_first_and_last_frame_with_an_image_encoder(
    tiny_flf2v: Path, scheduler: str, guidance: float
) -> None:
    theirs = loaded(WanImageToVideoPipeline, tiny_flf2v, scheduler)
    ours = loaded(DreaMontagePipeline, tiny_flf2v, scheduler)
    call = CALL | SIZE | {"guidance_scale": guidance, "max_sequence_length": 512}
    first, final = still(1, 64, 40), still(2)
    expected = theirs(image=first, last_image=final, generator=generator(), **call).frames
    conditions = [Keyframe(image=final, frame=8), Keyframe(image=first, frame=0)]
    got = ours(conditions=conditions, generator=generator(), **call).frames
    assert same(got, expected)
    with pytest.raises(ValueError, match="max_sequence_length = 32 must be 512"):
        ours(conditions=conditions, **call | {"max_sequence_length": 32})


TI2V_SIZE = {"height": 32, "width": 64}


@KINDS
@pytest.mark.parametrize("conditioning", ["native", "interm"])
def test_first_frame_as_a_clean_latent(
    tiny_ti2v: Path, scheduler: str, guidance: float, conditioning: Any
) -> None:
    theirs = loaded(WanImageToVideoPipeline, tiny_ti2v, scheduler)
    ours = loaded(DreaMontagePipeline, tiny_ti2v, scheduler)
    call = {"guidance_scale": guidance, **CALL, **TI2V_SIZE}
    first = still(1, 64, 40)
    expected = theirs(image=first, generator=generator(), **call).frames
    conditions = [Keyframe(image=first, frame=0)]
    got = ours(
        conditions=conditions, conditioning=conditioning, generator=generator(), **call
    ).frames
    assert same(got, expected)


@KINDS
def test_text_alone_with_a_time_for_every_token(
    tiny_ti2v: Path, scheduler: str, guidance: float
) -> None:
    theirs = loaded(WanPipeline, tiny_ti2v, scheduler)
    ours = loaded(DreaMontagePipeline, tiny_ti2v, scheduler)
    call = {"guidance_scale": guidance, **CALL, **TI2V_SIZE}
    expected = theirs(generator=generator(), **call).frames
    assert same(ours(generator=generator(), **call).frames, expected)


def test_two_experts(tiny_a14b: Path) -> None:
    theirs = loaded(WanImageToVideoPipeline, tiny_a14b)
    ours = loaded(DreaMontagePipeline, tiny_a14b)
    guidances = {"guidance_scale": 4.0, "guidance_scale_2": 2.5}
    expected = theirs(image=still(1), generator=generator(), **guidances, **CALL, **SIZE).frames
    conditions = [Keyframe(image=still(1), frame=0)]
    got = ours(conditions=conditions, generator=generator(), **guidances, **CALL, **SIZE).frames
    assert same(got, expected)
    one = ours(conditions=conditions, generator=generator(), guidance_scale=4.0, **CALL, **SIZE)
    assert not np.array_equal(one.frames, expected), "the second expert's guidance must count"


def test_text_alone(tiny_t2v: Path) -> None:
    theirs = loaded(WanPipeline, tiny_t2v)
    ours = loaded(DreaMontagePipeline, tiny_t2v)
    expected = theirs(guidance_scale=4.0, generator=generator(), **CALL, **SIZE).frames
    got = ours(guidance_scale=4.0, generator=generator(), **CALL, **SIZE).frames
    assert same(got, expected)
    with pytest.raises(ValueError, match="takes no conditions"):
        ours(conditions=[Keyframe(image=still(1), frame=0)], **CALL, **SIZE)
    ours.register_to_config(window_latents=3, tail_latents=1)
    with pytest.raises(ValueError, match="no shot longer than its window"):
        ours(**CALL | SIZE | {"num_frames": 13})


def test_prompts_given_as_embeddings(tiny_i2v: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    call = CALL | SIZE | {"guidance_scale": 4.0, "conditions": [Keyframe(image=still(1), frame=0)]}
    expected = pipe(**call).frames
    with torch.no_grad():
        given, free = pipe.encode_prompt("a cat", "blur", max_sequence_length=32)
    del call["prompt"], call["negative_prompt"]
    got = pipe(prompt_embeds=given, negative_prompt_embeds=free, **call).frames
    assert np.array_equal(got, expected)
    # Without guidance the negative prompt is not used, given or not.
    call["guidance_scale"] = 1.0
    one = pipe(prompt_embeds=given, negative_prompt_embeds=free, **call).frames
    assert np.array_equal(one, pipe("a cat", **call).frames)
    with pytest.raises(ValueError, match="either prompt or prompt_embeds"):
        pipe(**call)


def test_a_tensor_is_taken_as_it_is(tiny_i2v: Path) -> None:
    """Also where no pixel of it is below 0, which diffusers would read as a range of [0, 1]."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    picture = Image.fromarray(np.asarray(still(1)) // 2 + 128)
    pixels = pipe.video_processor.preprocess(picture)[0]
    assert pixels.min() > 0
    call = CALL | SIZE | {"guidance_scale": 1.0, "output_type": "pt"}
    films = [
        pipe(conditions=[Keyframe(image=image, frame=0)], **call).frames
        for image in (picture, np.asarray(picture), pixels, 0 * pixels - 0.5)
    ]
    assert torch.equal(films[0], films[1])
    assert torch.equal(films[0], films[2])
    assert not torch.equal(films[0], films[3])


def test_errors_of_native_requests_are_reported(tiny_i2v: Path, tmp_path: Path) -> None:
    ours = DreaMontagePipeline.from_pretrained(tiny_i2v)
    with pytest.raises(
        ValueError, match=r"conditions\[0\] reaches frame 9, past the shot's last frame, 8"
    ):
        ours(conditions=[Keyframe(image=still(1), frame=9)], **CALL, **SIZE)
    crowded = [Keyframe(image=still(1), frame=frame) for frame in (1, 3)]
    with pytest.raises(ValueError, match=r"conditions\[1\] is on frame 3; of the frames 1 to 4"):
        ours(conditions=crowded, **CALL, **SIZE)
    with pytest.raises(ValueError, match=r"conditions\[0\] is a clip without frames"):
        ours(conditions=[Clip(frames=[], frame=0)], **CALL, **SIZE)
    with pytest.raises(ValueError, match="must be uint8"):
        ours(conditions=[Keyframe(image=np.zeros((32, 48, 3)), frame=0)], **CALL, **SIZE)
    path: Any = "cat.png"
    with pytest.raises(ValueError, match=r"and is 'cat\.png': open files first"):
        ours(conditions=[Keyframe(image=path, frame=0)], **CALL, **SIZE)
    with pytest.raises(ValueError, match="picture is 16x16, the shot is 48x32"):
        ours(conditions=[Keyframe(image=torch.zeros(3, 16, 16), frame=0)], **CALL, **SIZE)
    with pytest.raises(ValueError, match="guidance_scale_2 is for models of two experts"):
        ours(guidance_scale_2=3.0, **CALL, **SIZE)
    with pytest.raises(ValueError, match="multiples of 16"):
        ours(**CALL, height=40, width=48)
    with pytest.raises(ValueError, match=r"holds no model_index\.json"):
        DreaMontagePipeline.from_pretrained(tmp_path)
