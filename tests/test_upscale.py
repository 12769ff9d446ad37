"""The super-resolution stage: tiles and windows change nothing that they should not, seams do not
show, and Shared-RoPE appends what it should.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.families.tiling import ramps, tiles
from dreamontage.families.wan import WanModel
from dreamontage.families.wan_sr import WanSrTask
from dreamontage.models import autoencoder
from dreamontage.models.codec import LinearCodec
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.pipeline.upscale import Upscaler, refine, sr_channels, upscale
from dreamontage.pipeline.upscale.enlarge import enlarge
from dreamontage.pipeline.upscale.model import SrModel
from dreamontage.pipeline.upscale.stage import grid_of, sr_model
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import plan_shot
from dreamontage.planning.upscale_settings import spans
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.sampling.denoise import denoise
from dreamontage.sampling.guiders import Branch
from dreamontage.sampling.schedulers import with_timesteps
from dreamontage.sampling.state import DenoiseState
from dreamontage.storyboard import PromptSpan
from dreamontage.storyboard.seeds import derive
from tests.support.tiny import TEXT, Z, tiny_text, tiny_transformer, tiny_vae

HEIGHT, WIDTH = 32, 48  # of the base film: 4 x 6 latents
FRAMES = 21  # 6 latents
STEPS = 5


def sr_dit(seed: int = 0, **overrides) -> DreaMontageTransformer3DModel:
    stock = tiny_transformer(sr_channels(Z), seed, **overrides)
    ours = DreaMontageTransformer3DModel.from_config(stock.config).eval()
    ours.load_state_dict(stock.state_dict())
    return ours


def smooth_film(seed: int, frames: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.randn(1, 3, 4, 3, 4, generator=torch.Generator().manual_seed(seed))
    size = (frames, height, width)
    film = torch.nn.functional.interpolate(coarse, size, mode="trilinear", align_corners=True)
    return film.tanh()


def linear_codec() -> LinearCodec:
    return LinearCodec.fit([smooth_film(seed, 9, HEIGHT, WIDTH) for seed in range(4)], z_dim=Z)


@pytest.fixture(scope="module")
def sr() -> DreaMontagePipeline:
    """A tiny SR model. Windows of 4 latents, of which 2 are handed over."""
    tokenizer, text_encoder = tiny_text()
    return DreaMontagePipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=linear_codec(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=sr_dit(),
        window_latents=4,
        tail_latents=2,
        max_sequence_length=16,
        default_steps=STEPS,
        default_guidance=1.0,
        conditioning="interm",
    )


@pytest.fixture(scope="module")
def base(sr) -> torch.Tensor:
    return autoencoder.encode(sr.vae, smooth_film(7, FRAMES, HEIGHT, WIDTH))


def pictures(count: int, scale: float = 2.0) -> list[torch.Tensor]:
    film = smooth_film(8, count, int(HEIGHT * scale), int(WIDTH * scale))
    return list(film[0].unbind(1))


def conditions(scale: float = 2.0) -> list[Keyframe | Clip]:
    """A still on latent 1 (its third frame) and a clip on latents 3 to 5."""
    still, *frames = pictures(10, scale)
    return [Keyframe(image=still, frame=3), Clip(frames=frames, frame=12)]


def segments(window: int, frames: int = FRAMES, tail: int = 2, loop: bool = False):
    return plan_shot(
        frames=frames,
        fps=Fraction(16),
        prompts=[PromptSpan(text="the sea")],
        conditions=[],
        seed=3,
        geometry=Geometry(window_latents=window, tail_latents=tail),
        loop=loop,
    ).segments


def run(sr, base, *, window: int = 4, **overrides) -> torch.Tensor:
    options = {"tile": (4, 6), "overlap": 2, "shared_rope": True, "scale": 2.0} | overrides
    upscaler = Upscaler(
        scale=options["scale"],
        tile_latents=options["tile"],
        overlap_latents=options["overlap"],
        shared_rope=options["shared_rope"],
        strength=options.get("strength", 0.7),
        spread=options.get("spread"),
    )
    runs = upscale(
        base.split(1, dim=2),
        pipe=sr,
        upscaler=upscaler,
        segments=segments(window),
        height=HEIGHT,
        width=WIDTH,
        conditions=options.get("conditions", conditions(options["scale"])),
        sampler=sr.sampler(STEPS, options.get("guidance", 1.0)),
        seed=options.get("seed", 5),
    )
    return torch.cat(list(runs), dim=2)


def enlarged(sr, base: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    size = (int(HEIGHT * scale), int(WIDTH * scale))
    return torch.cat(list(enlarge(sr.vae, [base], size, size)), dim=2)


def track_of(sr, scale: float = 2.0) -> IntermTrack:
    size = (int(HEIGHT * scale), int(WIDTH * scale))
    return IntermTrack(
        each.place(lambda video: autoencoder.encode(sr.vae, video), *size)
        for each in conditions(scale)
    )


@torch.no_grad()
def plainly(sr, base, *, shared_rope: bool) -> torch.Tensor:
    """The whole film in one window and one tile, as one would write it down: no tiling code."""
    film, track = enlarged(sr, base), track_of(sr)
    noise = torch.cat([noise_of(latent) for latent in range(film.shape[2])], dim=2)
    beside = torch.cat([track.window(0, 6, None, film), film], dim=1)
    prompt, _ = sr.encode_prompt("the sea", "", False, max_sequence_length=16, device="cpu")
    scheduler = UniPCMultistepScheduler.from_config(sr.scheduler.config)
    scheduler.set_timesteps(STEPS)
    first = next(i for i, level in enumerate(scheduler.sigmas.tolist()) if level <= 0.7)
    latents = torch.lerp(film, noise, scheduler.sigmas[first].item())
    shared = {}
    if shared_rope:
        still, clip = track.placements
        third, last = torch.zeros(2, 1, 4, 1, 8, 12)
        third[:, 2], last[:, 3] = 1, 1  # a still on its latent's third frame, a clip from the last
        clip_latent = clip.latents_BCLHW[:, :, :1]
        frames = [
            torch.cat([latent, mask, latent, latent], dim=1)
            for latent, mask in [(still.latents_BCLHW, third), (clip_latent, last)]
        ]
        shared = {"shared_states": torch.cat(frames, dim=2), "shared_frames": [1, 3]}
    for t in scheduler.timesteps[first:]:
        (velocity,) = sr.transformer(
            torch.cat([latents, beside], dim=1), t.expand(1), prompt, return_dict=False, **shared
        )
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
    return latents


def noise_of(latent: int) -> torch.Tensor:
    """A latent's noise depends on the seed and on its place in the shot, not on its window."""
    generator = torch.Generator().manual_seed(derive(5, "upscale", latent))
    return torch.randn(1, Z, 1, 8, 12, generator=generator)


# --- what must not change anything ---------------------------------------------------------------


@pytest.mark.parametrize("shared_rope", [True, False])
def test_one_tile_and_one_window_are_the_model_called_plainly(sr, base, shared_rope):
    """Bit for bit; and with Shared-RoPE off that is plain channel concat and nothing else."""
    expected = plainly(sr, base, shared_rope=shared_rope)
    assert torch.equal(run(sr, base, window=6, tile=(8, 12), shared_rope=shared_rope), expected)
    assert torch.equal(run(sr, base, window=9, tile=(20, 40), shared_rope=shared_rope), expected)


def test_shared_rope_tiles_and_windows_each_do_something(sr, base):
    whole = run(sr, base, window=6, tile=(8, 12))
    for other in (
        run(sr, base, window=6, tile=(8, 12), shared_rope=False),
        run(sr, base, window=6, tile=(4, 6)),
        run(sr, base, window=4, tile=(8, 12)),
        run(sr, base, window=6, tile=(8, 12), conditions=[]),
    ):
        assert other.shape == whole.shape
        assert (other - whole).abs().max() > 1e-4


def test_without_conditions_shared_rope_changes_nothing(sr, base):
    assert torch.equal(
        run(sr, base, conditions=[]), run(sr, base, conditions=[], shared_rope=False)
    )


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_a_flow_that_begins_in_the_film_changes_nothing_before_it_has_learnt(sr, base, spread):
    untrained = sr_dit()
    torch.nn.init.zeros_(untrained.proj_out.weight)
    torch.nn.init.zeros_(untrained.proj_out.bias)
    pipe = DreaMontagePipeline(**sr.components | {"transformer": untrained})
    made = run(pipe, base, strength=1.0, spread=spread)
    noise = torch.cat([noise_of(latent) for latent in range(made.shape[2])], 2)
    assert torch.allclose(made, enlarged(sr, base) + spread * noise, atol=1e-3)


def test_the_seed_and_nothing_else_decides_the_noise(sr, base):
    torch.manual_seed(0)
    one = run(sr, base)
    torch.manual_seed(1)
    assert torch.equal(one, run(sr, base))
    assert not torch.equal(one, run(sr, base, seed=6))


def test_guidance_asks_twice(sr, base):
    assert not torch.equal(run(sr, base), run(sr, base, guidance=3.0))


def test_an_sr_model_is_a_grown_base_model_in_a_folder_like_any_other(sr, base, tmp_path):
    """Saved and loaded, it gives the same film, and keeps what it has of an `Upscaler`."""
    transformer = DreaMontageTransformer3DModel.from_config(
        sr.transformer.config | {"in_channels": 12}
    )
    transformer.grow_input(sr_channels(Z))
    grown = DreaMontagePipeline(**sr.components | {"transformer": transformer.eval()})
    own = {"tile_latents": [4, 6], "overlap_latents": 2, "strength": 0.5}
    grown.register_to_config(max_sequence_length=16, superres=own)
    grown.save_pretrained(tmp_path)
    again = DreaMontagePipeline.from_pretrained(tmp_path)
    # Where weights lie in memory may change a product's last bit.
    torch.testing.assert_close(run(again, base), run(grown, base), rtol=0, atol=1e-5)
    assert SrModel.from_folder(tmp_path).upscaler(2.0) == sr_model(again).upscaler(2.0)
    assert sr_model(again).upscaler(2.0) == Upscaler(
        scale=2.0, tile_latents=(4, 6), overlap_latents=2, strength=0.5
    )


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "height", "width", "target", "padded"),
    [
        (1.5, 32, 64, (48, 96), (48, 96)),
        (2, 16, 48, (32, 96), (32, 96)),
        (2.25, 64, 128, (144, 288), (144, 288)),
        (2.25, 480, 832, (1080, 1872), (1088, 1872)),
        (1.5, 32, 48, (48, 72), (48, 80)),
    ],
)
def test_a_target_is_what_was_asked_for_and_worked_at_on_the_grid(
    sr, scale, height, width, target, padded
):
    upscaler = Upscaler(scale=scale)
    assert upscaler.size(height, width) == target
    assert upscaler.padded(height, width, multiple=grid_of(sr)) == padded


def test_a_target_of_half_a_pixel_is_refused(sr):
    with pytest.raises(ValueError, match=r"^width = 90 times 2.25 is 202.5, .* a multiple of 4$"):
        Upscaler(scale=2.25).size(64, 90)


def test_off_the_grid_the_last_rows_and_columns_are_repeated_and_nothing_is_squeezed(sr, base):
    """48x32 times 1.5 is 72x48, on the grid of 16: 80x48."""
    upscaler = Upscaler(scale=1.5, tile_latents=(6, 10), overlap_latents=2)
    still = smooth_film(8, 1, 48, 72)[0, :, 0]
    with Watched(sr.transformer) as calls:
        runs = upscale(
            [base],
            pipe=sr,
            upscaler=upscaler,
            segments=segments(6),
            height=HEIGHT,
            width=WIDTH,
            conditions=[Keyframe(image=still, frame=0)],
            sampler=sr.sampler(STEPS, 1.0),
        )
        film = torch.cat(list(runs), dim=2)
    assert film.shape[3:] == (6, 10)
    channels = calls[0]["hidden_states"]
    wide = torch.cat([still, still[:, :, -1:].expand(-1, -1, 8)], dim=2)
    expected = autoencoder.encode(sr.vae, wide[None, :, None])
    assert torch.equal(channels[:, 8:12, :1], expected)
    frames = torch.cat(list(autoencoder.decode(sr.vae, [base])), dim=2)[0].transpose(0, 1)
    large = torch.nn.functional.interpolate(frames, (48, 72), mode="bicubic")
    large = torch.nn.functional.pad(large, (0, 8, 0, 0), mode="replicate").clamp(-1, 1)
    assert torch.equal(channels[:, 12:], autoencoder.encode(sr.vae, large.transpose(0, 1)[None]))
    with pytest.raises(ValueError, match="picture is 80x48, the shot is 72x48"):
        upscale(
            [base],
            pipe=sr,
            upscaler=upscaler,
            segments=segments(6),
            height=HEIGHT,
            width=WIDTH,
            conditions=[Keyframe(image=wide, frame=0)],
        )


@pytest.mark.parametrize("scale", [1.5, 2, 2.25])
def test_every_scale_gives_a_film_of_its_size(sr, scale):
    film = smooth_film(9, 5, 64, 64)
    runs = upscale(
        [autoencoder.encode(sr.vae, film)],
        pipe=sr,
        upscaler=Upscaler(scale=scale, tile_latents=(8, 8), overlap_latents=2),
        segments=segments(4, frames=5),
        height=64,
        width=64,
    )
    video = torch.cat(list(autoencoder.decode(sr.vae, runs)), dim=2)
    assert video.shape == (1, 3, 5, 64 * scale, 64 * scale)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"scale": 3.0}, "scale = 3.0 must be one of 1.5, 2.0, 2.25"),
        ({"scale": 2.0, "overlap_latents": 60}, "overlap_latents = 60 must be"),
        ({"scale": 2.0, "strength": 0.0}, "strength = 0.0 must lie above 0"),
        ({"scale": 2.0, "spread": 0.1}, "spread = 0.1 must be at least 0, and strength = 0.7 then"),
        ({"scale": 2.0, "spread": -1, "strength": 1}, "spread = -1 must be at least 0"),
    ],
)
def test_settings_name_their_rule(settings_, message):
    with pytest.raises(ValueError, match=message):
        Upscaler(**settings_)


def test_errors_are_reported_before_anything_runs(sr, base):
    def start(**overrides):
        given_ = {"pipe": sr, "upscaler": Upscaler(scale=2), "height": HEIGHT, "width": WIDTH}
        return upscale([base], segments=segments(4), **(given_ | overrides))

    with pytest.raises(
        ValueError, match="tile_latents' height, 5, and overlap_latents = 2 must be"
    ):
        start(upscaler=Upscaler(scale=2, tile_latents=(5, 6), overlap_latents=2))
    with pytest.raises(ValueError, match=r"strength = 0.1 is below the last noise level of 5"):
        start(upscaler=Upscaler(scale=2, strength=0.1))
    with pytest.raises(ValueError, match="picture is 48x32, the shot is 96x64"):
        start(conditions=[Keyframe(image=pictures(1, 1.0)[0], frame=0)])
    no_sr = DreaMontagePipeline(**sr.components | {"transformer": tiny_transformer(2 * Z + 4)})
    with pytest.raises(ValueError, match=r"transformer.in_channels = 12, .* has 16"):
        start(pipe=no_sr)


def test_latents_and_segments_must_agree(sr, base):
    for given_, message in [
        (base[:, :, :5], "latents end at 5, the segments at 6"),
        (torch.cat([base, base[:, :, -1:]], dim=2), "latents go on after 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(sr, given_)


# --- tiles ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_tiles_cover_the_picture_and_their_weights_sum_to_one(data):
    multiple = data.draw(st.sampled_from([1, 2]), "patch")
    size = multiple * data.draw(st.integers(1, 20), "tile")
    overlap = multiple * data.draw(st.integers(0, size // multiple - 1), "overlap")
    length = multiple * data.draw(st.integers(1, 80), "length")
    covering = spans(length, size, overlap, multiple)
    assert covering[0].start == 0
    assert covering[-1].stop == length
    assert {len(span) for span in covering} == {min(size, length)}
    for one, next_ in pairwise(covering):
        assert one.start < next_.start <= one.stop - overlap
        assert next_.start % multiple == 0
    if len(covering) > 1:  # no more of them than it takes
        assert (len(covering) - 1) * (size - overlap) + overlap < length
    total = torch.zeros(length)
    for span, weight in zip(covering, ramps(covering), strict=True):
        assert (weight > 0).all()
        total[span.start : span.stop] += weight
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 40), width=st.integers(1, 40), overlap=st.integers(0, 5))
def test_weights_of_tiles_both_ways_sum_to_one(height, width, overlap):
    total = torch.zeros(height, width)
    for tile in tiles(height, width, size=(6, 9), overlap=overlap, patch=(1, 1)):
        tile.crop(total).add_(tile.weight_HW)
    torch.testing.assert_close(total, torch.ones(height, width), atol=1e-6, rtol=0)


def test_two_tiles_fade_linearly():
    left, right = ramps([range(6), range(3, 9)])
    torch.testing.assert_close(left, torch.tensor([1, 1, 1, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(right, torch.tensor([0.25, 0.5, 0.75, 1, 1, 1]))


def tiled(model, film: torch.Tensor, size: tuple[int, int], overlap: int) -> torch.Tensor:
    """A smooth film, denoised without noise put on it: what noise there were would hide seams."""
    height, width = film.shape[3:]
    beside = torch.cat([torch.zeros(1, 4 + Z, *film.shape[2:]), film], dim=1)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    prompt = torch.randn(1, 5, TEXT, generator=torch.Generator().manual_seed(1))
    task = WanSrTask(
        model=WanModel(experts=[model], guiders=[[]], prompts={Branch.CONDITIONAL: prompt}),
        latents=film,
        scheduler=with_timesteps(scheduler, 6),
        generator=None,
        channels_BCLHW=beside,
        tiles=tiles(height, width, size=size, overlap=overlap, patch=(1, 1)),
    )
    start = DenoiseState(step=2, total=6, latents=film, scheduler={})
    return deque(denoise(task, start), maxlen=1)[0].latents


def border_step(film: torch.Tensor, size: tuple[int, int], overlap: int) -> float:
    """The mean step from latent to latent across the tiles' borders, over the mean step elsewhere;
    the worse of the two directions.
    """
    ratios = []
    for axis, length in ((3, film.shape[3]), (4, film.shape[4])):
        covering = spans(length, size[axis - 3], overlap)
        borders = {span.start - 1 for span in covering[1:]} | {
            span.stop - 1 for span in covering[:-1]
        }
        steps = film.diff(dim=axis).abs().mean([0, 1, 2, 7 - axis])
        across = steps[sorted(borders)]
        elsewhere = steps[sorted(set(range(length - 1)) - borders)]
        ratios.append(float(across.mean() / elsewhere.mean()))
    return max(ratios)


@pytest.mark.parametrize("seed", range(4))
def test_seams_of_tiles_do_not_show(seed):
    """A random DiT whose tokens mind the rest of their tile more than they usually would, so that
    tiles do differ. Tiles laid edge to edge show it, and fail the measure.
    """
    model = sr_dit(seed, patch_size=(1, 1, 1))
    with torch.no_grad():
        for block in model.blocks:
            block.attn1.to_out[0].weight.mul_(5)
            block.scale_shift_table[:, 2] = 1  # the gate of self-attention
    place = torch.linspace(-1, 1, 24)[:, None] + torch.linspace(-2, 2, 48)
    phases = torch.arange(Z)[:, None] + torch.arange(3)
    film = (place + phases[..., None, None]).sin()[None]
    size = (12, 16)
    assert border_step(tiled(model, film, (24, 48), 0), size, 4) < 1.1, "untiled: no borders"
    assert border_step(tiled(model, film, size, 4), size, 4) < 1.2
    assert border_step(tiled(model, film, size, 0), size, 0) > 1.5


# --- Shared-RoPE ---------------------------------------------------------------------------------


class Watched:
    """What the DiT was given, call by call."""

    def __init__(self, model) -> None:
        self.calls: list[dict] = []
        self._hook = model.register_forward_pre_hook(
            lambda _, __, inputs: self.calls.append(inputs), with_kwargs=True
        )

    def __enter__(self) -> list[dict]:
        return self.calls

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def test_each_window_and_tile_gets_its_part_of_the_stills_that_begin_in_it(sr, base):
    still, clip = track_of(sr).placements
    with Watched(sr.transformer) as calls:
        run(sr, base, window=4, tile=(8, 8), overlap=4)  # windows [0, 4) and [2, 6), two tiles
    # 5 steps, of which those at noise levels of at most 0.7 run; every step asks two tiles.
    (first, later) = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    for window, stills, places in [
        (first, [still, clip], [1, 3]),
        (later, [clip], [1]),
    ]:
        for index, call in enumerate(window):
            columns = slice(0, 8) if index % 2 == 0 else slice(4, 12)
            assert list(call["shared_frames"]) == places
            for n, placement in enumerate(stills):
                got = call["shared_states"][:, :, n]
                expected = placement.latents_BCLHW[:, :, 0, :, columns]
                for channels in (slice(0, 4), slice(8, 12), slice(12, 16)):
                    assert torch.equal(got[:, channels], expected)
                marked = 2 if placement is still else 3  # the frame of its latent
                mask = torch.zeros(4)
                mask[marked] = 1
                assert torch.equal(got[0, 4:8, 0, 0], mask)
    assert len(first) == len(later) > 0


def test_a_clip_that_began_before_the_window_appends_nothing(sr, base):
    frames = pictures(17)
    with Watched(sr.transformer) as calls:
        run(sr, base, window=4, tile=(8, 12), conditions=[Clip(frames=frames, frame=0)])
    first, later = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    assert all(list(call["shared_frames"]) == [0] for call in first)
    assert all("shared_states" not in call for call in later)
    # It still guides it: the mask of latent 4, the window's third, is full.
    assert later[0]["hidden_states"][0, 4:8, 2].min() == 1


# --- windows and memory --------------------------------------------------------------------------


def test_a_window_gets_the_tail_of_the_window_before_and_is_blended_over_it(sr, base):
    upscaler = Upscaler(scale=2, tile_latents=(8, 12), overlap_latents=2)
    film, previous, windows, starts = enlarged(sr, base), None, [], []
    parts = segments(4)
    assert [(part.start, part.stop) for part in parts] == [(0, 4), (2, 6)]
    for part in parts:
        states = refine(
            part,
            pipe=sr,
            upscaler=upscaler,
            enlarged_BZLHW=film[:, :, part.start : part.stop],
            track=track_of(sr),
            previous_BZLHW=previous,
            sampler=sr.sampler(STEPS, 1.0),
            seed=5,
        )
        with Watched(sr.transformer) as calls:
            previous = deque(states, maxlen=1)[0].latents_BCLHW
        windows.append(previous)
        starts.append(calls[0]["hidden_states"])
    first, given_ = starts
    assert torch.equal(first[:, :4, 2:], given_[:, :4, :2]), "the overlap starts from the same"
    assert given_[:, 4:8, :2].min() == 1
    assert torch.equal(given_[:, 8:12, :2], windows[0][:, :, 2:])
    assert torch.equal(given_[:, 12:], film[:, :, 2:]), "the enlarged film stays as it is"
    got = run(sr, base, tile=(8, 12))
    assert torch.equal(got[:, :, :2], windows[0][:, :, :2])
    assert torch.equal(got[:, :, 4:], windows[1][:, :, 2:])
    for latent, share in ((2, 1 / 3), (3, 2 / 3)):
        mixed = torch.lerp(windows[0][:, :, latent], windows[1][:, :, latent - 2], share)
        torch.testing.assert_close(got[:, :, latent], mixed)


def test_a_loop_is_enlarged_as_one(sr):
    """The closing window is given the refined head, beside the enlarged one's whole latents."""
    base = autoencoder.encode(sr.vae, smooth_film(7, 25, HEIGHT, WIDTH))  # a loop of 24 frames
    parts = segments(5, frames=24, loop=True)
    assert [(part.start, part.stop, part.head) for part in parts] == [
        (0, 5, 0),
        (3, 6, 0),
        (4, 9, 3),
    ]
    with Watched(sr.transformer) as calls:
        runs = upscale(
            base.split(1, dim=2),
            pipe=sr,
            upscaler=Upscaler(scale=2, tile_latents=(8, 12), overlap_latents=2),
            segments=parts,
            height=HEIGHT,
            width=WIDTH,
            sampler=sr.sampler(STEPS, 1.0),
        )
        film = torch.cat(list(runs), dim=2)
    assert film.shape[2] == 7, "latents of frames 0 to 24, the last of which is the first again"
    channels = calls[-1]["hidden_states"]
    assert torch.equal(channels[:, 8:12, 2:], film[:, :, :3])
    assert channels[0, 4:8, 2:, 0, 0].tolist() == [[0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1]]
    large = enlarged(sr, base)
    assert torch.equal(channels[:, 12:], torch.cat([large[:, :, 4:], large[:, :, 1:3]], dim=2))
    assert list(calls[-1]["shared_frames"]) == [2], "the first frame is a still there"


def tokens(calls: list[dict]) -> int:
    """The most that one call of the DiT was given."""
    frames = [call["hidden_states"].shape[2] + len(call.get("shared_frames", ())) for call in calls]
    heights, widths = zip(*(call["hidden_states"].shape[3:] for call in calls), strict=True)
    return max(f * (h // 2) * (w // 2) for f, h, w in zip(frames, heights, widths, strict=True))


@pytest.mark.parametrize(("frames", "side"), [(21, 32), (61, 32), (21, 64)])
def test_a_call_is_no_larger_than_a_tile_of_a_window(sr, frames, side):
    """Whatever the film's length and size: a window's latents and the stills that begin in it."""
    still = smooth_film(4, 1, 2 * side, 2 * side)[0, :, 0]
    with Watched(sr.transformer) as calls:
        runs = upscale(
            [autoencoder.encode(sr.vae, smooth_film(1, frames, side, side))],
            pipe=sr,
            upscaler=Upscaler(scale=2, tile_latents=(4, 6), overlap_latents=2),
            segments=segments(4, frames=frames),
            height=side,
            width=side,
            conditions=[Keyframe(image=still, frame=8)],
        )
        deque(runs, maxlen=0)
    assert tokens(calls) == (4 + 1) * 2 * 3


def test_the_film_streams_through(sr):
    """Latents come out before the base film has been read to its end."""
    film = autoencoder.encode(sr.vae, smooth_film(1, 81, HEIGHT, WIDTH))
    read = []

    def base():
        for index, latent in enumerate(film.split(1, dim=2)):
            read.append(index)
            yield latent

    runs = upscale(
        base(),
        pipe=sr,
        upscaler=Upscaler(scale=2, tile_latents=(8, 12), overlap_latents=2),
        segments=segments(4, frames=81),
        height=HEIGHT,
        width=WIDTH,
    )
    assert read == []
    ahead = []
    done = 0
    for run_ in runs:
        done += run_.shape[2]
        ahead.append(len(read) - done)
    assert done == 21
    assert max(ahead) <= 4, "never more than a window ahead"


@pytest.mark.parametrize("make", [tiny_vae, linear_codec])
@torch.no_grad()
def test_enlarging_latent_by_latent_equals_enlarging_the_whole_film(make):
    vae = make()
    latents = autoencoder.encode(vae, smooth_film(2, 13, 32, 48))
    frames = vae.decode(autoencoder.denormalise(vae, latents)).sample[0].transpose(0, 1)
    large = torch.nn.functional.interpolate(frames, (64, 96), mode="bicubic").clamp(-1, 1)
    expected = autoencoder.encode(vae, large.transpose(0, 1)[None])
    got = list(enlarge(vae, latents.split([1, 3], dim=2), (64, 96), (64, 96)))
    assert torch.equal(torch.cat(got, dim=2), expected)
