"""The film of a loop: the closing window gets the film's first latents, for each kind of model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamontage import Clip, DreaMontagePipeline, Keyframe, storyboard
from dreamontage.models import autoencoder
from dreamontage.models.random_weights import Z
from dreamontage.rendering import local
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.storyboard.errors import StoryboardError
from tests.support.boards import WriteBoard
from tests.support.plans import clip, loop_plan, still
from tests.support.tiny import IMAGE_WIDTH

HEIGHT, WIDTH, FRAMES, STEPS, GUIDANCE = 32, 48, 32, 3, 2.0
PICTURES = np.random.default_rng(0).integers(0, 255, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
CONDITIONS: list[Keyframe | Clip] = [
    Keyframe(image=PICTURES[7], frame=0),
    Clip(frames=list(PICTURES[:6]), frame=25),  # up to frame 30, in the last latent
]
PLACED = [still(0, 0), clip(25, 6, 1)]


def film_of(pipe: DreaMontagePipeline, **overrides: Any) -> Tensor:
    call: dict[str, Any] = {
        "prompt": "",
        "conditions": CONDITIONS,
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "seed": 7,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "output_type": "pt",
        "loop": True,
    }
    output: Any = pipe(**call | overrides)
    film: Tensor = output.frames
    return film


def encoded(pipe: DreaMontagePipeline, pictures: Any) -> Tensor:
    return autoencoder.encode(pipe.vae, pixels(list(pictures), HEIGHT, WIDTH))


@torch.no_grad()
def test_the_closing_window_gets_the_head_as_a_clip_at_frame_n(tiny_ours: Path) -> None:
    """The whole loop written out: the channels of each window, and the film."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segments = loop_plan(FRAMES, *PLACED, geometry=pipe.geometry).segments
    # Latents 0 to 8; the closing window has one more, which is latent 1 again.
    assert [(each.start, each.stop, each.head) for each in segments] == [
        (0, 4, 0),
        (3, 7, 0),
        (6, 10, 2),
    ]
    channels = torch.zeros(1, MASK_CHANNELS + Z, 10, HEIGHT // 8, WIDTH // 8)
    channels[:, :4, 0] = 1
    channels[:, 4:, :1] = encoded(pipe, PICTURES[7:])
    channels[:, 3, 7] = 1  # the clip from its grid frame, 28, on; its end is frame N's slot
    channels[:, 4:, 7:8] = encoded(pipe, PICTURES[3:4])
    given, free = pipe.encode_prompt("", "", max_sequence_length=32)

    film = torch.zeros(1, Z, 9, HEIGHT // 8, WIDTH // 8)
    made: list[Tensor] = []
    for segment in segments:
        condition = channels[:, :, segment.start : segment.stop].clone()
        if segment.index:
            condition[:, :4, 0] = 1
            condition[:, 4:, 0] = made[-1][:, :, -1]
        if segment.head:
            condition[:, :, -2:] = 0
            condition[:, 3, -2] = 1  # frame N, the last of its latent
            condition[:, :4, -1] = 1
            condition[:, 4:, -2:] = made[0][:, :, :2]  # as the first window made them
        latents = torch.randn(
            (1, Z, *condition.shape[2:]), generator=torch.Generator().manual_seed(segment.seed)
        )
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            with_prompt, without = (
                pipe.transformer(torch.cat([latents, condition], dim=1), t[None], text).sample
                for text in (given, free)
            )
            velocity = without + GUIDANCE * (with_prompt - without)
            latents = scheduler.step(velocity, t, latents).prev_sample
        made.append(latents)
        if segment.index:
            latents = latents.clone()
            latents[:, :, 0] = torch.lerp(film[:, :, segment.start], latents[:, :, 0], 0.5)
        stop = min(segment.stop, 9)
        film[:, :, segment.start : stop] = latents[:, :, : stop - segment.start]
    assert torch.equal(film_of(pipe, output_type="latent"), film)
    video = pipe.vae.decode(autoencoder.denormalise(pipe.vae, film)).sample
    assert video.shape[2] == FRAMES + 1
    expected = pipe.video_processor.postprocess_video(video[:, :, :FRAMES], output_type="pt")
    shown = film_of(pipe)
    assert torch.equal(shown, expected), "cut at frame N, which is frame 0"
    straight = film_of(pipe, loop=False)
    assert torch.equal(shown[:, :13], straight[:, :13]), "the first window does not have it"
    assert not torch.equal(shown[:, -3:], straight[:, -3:])


def closing_inputs(folder: Path, **overrides: Any) -> tuple[DreaMontagePipeline, list[Any]]:
    """A loop's pipeline, and what its DiT was called with in the closing window's first step."""
    pipe = DreaMontagePipeline.from_pretrained(folder)
    pipe.register_to_config(window_latents=4, tail_latents=1, max_sequence_length=512)
    calls: list[Any] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    film = film_of(
        pipe,
        **{"guidance_scale": 1.0, "num_inference_steps": 1, "output_type": "latent"} | overrides,
    )
    hook.remove()
    return pipe, [calls[-1], film]


def test_native_weights_get_a_loops_first_frame_in_a_grey_film(tiny_i2v: Path) -> None:
    pipe, (call, film) = closing_inputs(tiny_i2v, conditions=[])
    channels = call["hidden_states"][:, Z:]
    assert channels.shape[2] == 4  # latents 6 to 9
    assert torch.equal(channels[:, :4, 3], torch.ones_like(channels[:, :4, 3]))
    assert torch.equal(channels[:, 4:, 3], film[:, :, 1])
    assert channels[0, :4, 2, 0, 0].tolist() == [0, 0, 0, 1]
    grey = torch.zeros(1, 3, 13, HEIGHT, WIDTH)
    grey[:, :, 8] = autoencoder.StreamingDecoder(pipe.vae)(film[:, :, :1])[:, :, 0]
    assert torch.equal(channels[:, 4:, 1:3], autoencoder.encode(pipe.vae, grey)[:, :, 1:3])


def test_an_image_encoder_sees_a_loops_first_frame_at_its_end(
    tiny_flf2v: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    encode_image = DreaMontagePipeline.encode_image

    def spy(self: Any, pictures: Any, device: Any) -> Tensor:
        seen.append(pictures)
        encoded: Tensor = encode_image(self, pictures, device)
        return encoded

    monkeypatch.setattr(DreaMontagePipeline, "encode_image", spy)
    pipe, (call, film) = closing_inputs(tiny_flf2v, conditions=CONDITIONS[:1])
    first = autoencoder.StreamingDecoder(pipe.vae)(film[:, :, :1])
    shown = (first[0, :, 0].permute(1, 2, 0) * 127.5 + 127.5).round().clamp(0, 255)
    assert np.array_equal(np.asarray(seen[-1][-1]), shown.to(torch.uint8).numpy())
    assert call["encoder_hidden_states_image"].shape[-1] == IMAGE_WIDTH


def test_clean_latents_close_a_loop_too(tiny_ti2v: Path) -> None:
    """Wan 2.2 TI2V: the head is among the noise, at time 0."""
    conditions = [Keyframe(image=np.zeros((32, 64, 3), np.uint8), frame=0)]
    _, (call, film) = closing_inputs(tiny_ti2v, conditions=conditions, width=64)
    hidden = call["hidden_states"]
    assert torch.equal(hidden[:, :, 2:], film[:, :, :2])
    times = call["timestep"].view(4, -1)
    assert times[2:].eq(0).all()
    assert times[1].gt(0).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"num_frames": 33, "conditions": []},
            "num_frames = 33 must be a multiple of 4 for a loop",
        ),
        ({"num_frames": 8, "conditions": []}, "needs at least 12 frames"),
        (
            {"conditions": [Keyframe(image=PICTURES[0], frame=30)]},
            r"conditions\[0\] is on frame 30; of the frames 29 to 32, .* first, met again",
        ),
    ],
)
def test_what_no_loop_can_have_is_refused(
    tiny_ours: Path, overrides: dict[str, Any], message: str
) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    with pytest.raises(ValueError, match=message):
        film_of(pipe, **overrides)


@pytest.fixture
def looping(write_board: WriteBoard) -> Path:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"name": "walk", "duration": {"frames": 32}, "loop": True, "keyframes": stills}
    return write_board("loop", shots=[shot])


def test_a_loop_rendered_locally_is_measured_at_its_end_and_recorded(
    looping: Path, tiny_ours: Path, tmp_path: Path
) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    loaded = storyboard.load(looping)
    made, _ = local.render(loaded, looping.parent, tmp_path / "out", pipe, name="loop")
    (record,) = json.loads(made.record.read_text())["shots"]
    assert record["loop"] is True
    assert record["frames"] == 32
    (seam,) = (score for score in record["scores"] if score["name"] == "seam")
    assert "the loop's end: " in seam["detail"]
    assert len(record["segments"]) == 3
    # Rendered again without its closing segment: the segment is the same.
    closing = tmp_path / "out" / "segments" / f"{record['segments'][-1]['key']}.safetensors"
    before = closing.read_bytes()
    closing.unlink()
    film = made.film.read_bytes()
    local.render(loaded, looping.parent, tmp_path / "out", pipe, name="loop")
    assert made.film.read_bytes() == film
    assert closing.read_bytes() == before


def test_a_loop_that_the_model_cannot_make_is_refused_before_rendering(
    write_board: WriteBoard, tiny_ours: Path, tmp_path: Path
) -> None:
    path = write_board("short", shots=[{"duration": {"frames": 8}, "loop": True}])
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    with pytest.raises(StoryboardError) as error:
        local.render(storyboard.load(path), path.parent, tmp_path / "out", pipe, name="short")
    assert str(error.value) == (
        "shots[0].duration = 8 frames: too short for a loop with this model, which needs at least "
        "12 frames"
    )
