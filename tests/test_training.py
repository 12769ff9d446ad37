"""Training the DiT: conditions as at inference, a loss that falls, and runs that survive a kill."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from safetensors.torch import load_file

from dreamontage.conditioning import Clip, IntermTrack, Keyframe, Placement
from dreamontage.models import autoencoder
from dreamontage.models.text import embed
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of
from dreamontage.training import checkpoint, flow, nano, windows, worlds
from dreamontage.training.adaptive import Shape, Study, WindowsObjective
from dreamontage.training.feed import Draws, batches
from dreamontage.training.muon import Muon
from dreamontage.training.recipe import Recipe
from dreamontage.training.recipes import CHAINS, RECIPES
from dreamontage.training.runs import latest, train
from dreamontage.training.trainer import Trainer
from dreamontage.training.windows import Guides

WEIGHTS = "diffusion_pytorch_model.safetensors"
SIZE = nano.Size(heads=1, layers=1, ffn=64, z_dim=8)
STUDY = Study(
    shapes=(
        Shape(weight=1, latents=3, height=16, width=32, batch=2),
        Shape(weight=1, latents=4, height=32, width=16, batch=2, closes=0.9),
    ),
    size=SIZE,
    codec_batches=1,
    held_out=2,
    sampling=False,
)


def tiny(study: Study = STUDY, **overrides) -> Recipe:
    build = partial(WindowsObjective, study=study)
    return Recipe(**{"name": "tiny", "build": build, "warmup": 1} | overrides)


@pytest.fixture(scope="module")
def frozen() -> nano.Frozen:
    return nano.build_frozen(seed=0, z_dim=8, batches=1, size=32)


def _guides() -> list[tuple[Guides, bool]]:
    return [
        (Guides(stills=(0, 6, 16)), False),
        (Guides(stills=(13,), clips=((0, 7),)), False),
        (Guides(stills=(3,), clips=((8, 9),)), False),
        (Guides(clips=((4, 3),)), False),
        (Guides(tail=2), True),
        (Guides(tail=1, stills=(6, 12, 20)), True),
        (Guides(tail=1, clips=((8, 6),), stills=(17,)), True),
        (Guides(clips=((0, 6), (12, 5))), False),
    ]


@pytest.mark.parametrize(("guide", "middle"), _guides())
def test_conditions_are_those_of_inference(
    frozen: nano.Frozen, guide: Guides, middle: bool
) -> None:
    """What training builds for a batch equals what `IntermTrack` builds for one shot.

    A middle window is the latents from 1 on of a longer shot. A clip's later latents are drawn from
    the posterior in training; with its variance at nothing they are inference's.
    """
    vae = frozen.vae
    certain = type(vae).from_config(vae.config, noise_logvar=-30.0)
    certain.load_state_dict(vae.state_dict())
    latents, skip = 5, int(middle)
    frames = 1 + TEMPORAL_STRIDE * (latents - 1 + skip)
    video_BCTHW, prompts, _ = worlds.clips(2, 1, frames=frames, height=16, width=24)
    built = windows.build(
        certain, video_BCTHW, [guide], prompts, middle=middle, generator=torch.Generator()
    )

    def encode(video: torch.Tensor) -> torch.Tensor:
        return autoencoder.encode(vae, video)

    conditions: list[Keyframe | Clip] = [
        Keyframe(image=video_BCTHW[0, :, frame], frame=frame) for frame in guide.stills
    ]
    for start, count in guide.clips:
        run = [video_BCTHW[0, :, frame] for frame in range(start, start + count)]
        conditions.append(Clip(frames=run, frame=start))
    placed: list[Placement] = [condition.place(encode, 16, 24) for condition in conditions]
    whole = encode(video_BCTHW)[:, :, skip:]
    tail = whole[:, :, : guide.tail] if guide.tail else None
    expected = IntermTrack(placed).window(skip, skip + latents, tail, whole)
    assert torch.equal(built.condition_BCLHW[:, :4], expected[:, :4])
    assert torch.allclose(built.condition_BCLHW, expected, atol=1e-4)
    assert torch.equal(built.latents_BZLHW, whole)


def test_guides_stay_in_the_window_and_every_kind_is_drawn() -> None:
    rng = random.Random(0)
    seen = {"stills": 0, "clip": 0, "clips": 0, "nothing": 0, "long tail": 0}
    for turn in range(2000):
        middle = bool(turn % 2)
        latents = rng.randint(3, 13)
        guide = windows.draw_guides(rng, latents=latents, middle=middle, tail=2, boundaries=[5, 9])
        assert (guide.tail >= 1) == middle
        assert guide.tail < latents
        first = TEMPORAL_STRIDE * guide.tail + middle
        last = TEMPORAL_STRIDE * (latents - 1 + middle)
        assert all(first <= frame <= last for frame in guide.stills)
        spans: list[int] = []
        for start, frames in guide.clips:
            spans += range(latent_of(start), latent_of(start + frames - 1) + 1)
            assert start % TEMPORAL_STRIDE == 0
            assert frames >= 1
            assert first <= start
            assert start + frames - 1 <= last
        assert len(spans) == len(set(spans)), "clips stand apart"
        seen["clip"] += len(guide.clips) == 1
        seen["clips"] += len(guide.clips) == 2
        seen["stills"] += bool(guide.stills)
        seen["nothing"] += not guide.stills and not guide.clips
        seen["long tail"] += guide.tail > 2
    assert all(count > 40 for count in seen.values()), seen


def test_times_follow_the_samplers_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    times = flow.draw_times(20000, shift=3.0, uniform=0.0, generator=generator)
    assert times.median() == pytest.approx(0.75, abs=0.01)
    even = flow.draw_times(20000, shift=3.0, uniform=1.0, generator=generator)
    assert even.mean() == pytest.approx(0.5, abs=0.01)


def test_a_few_steps_lower_the_loss_on_a_fixed_batch(frozen: nano.Frozen) -> None:
    scenes = worlds.sample(1, 2, frames=21, height=16, width=32)
    batch = windows.draw(frozen.vae, scenes, latents=3, middle=False, tail=2, seed=1)
    prompts_BSD = embed(frozen.tokenizer, frozen.text_encoder, batch.prompts)
    generator = torch.Generator().manual_seed(0)
    clean = batch.latents_BZLHW
    noise = torch.randn(clean.shape, generator=generator)
    model = nano.build_transformer(SIZE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = flow.velocity_errors(
            model,
            clean,
            batch.condition_BCLHW,
            prompts_BSD,
            times_B=torch.tensor([0.4, 0.8]),
            noise_BZLHW=noise,
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    velocity = noise - clean
    assert losses[0] == pytest.approx(float(velocity.square().mean()), rel=1e-4), "starts at zero"
    assert losses[-1] < 0.6 * losses[0]


def test_training_samples_as_the_pipeline_does(tmp_path: Path) -> None:
    """`flow.sample` and the pipeline make the same latents from the same noise."""
    run = Trainer(tiny(), tmp_path, steps=9)
    for _ in range(2):
        run.train_step()
    pipe = DreaMontagePipeline.from_pretrained(run.export())
    noise = torch.randn(1, 8, 3, 2, 4, generator=torch.Generator().manual_seed(3))
    film = pipe(
        "pan left",
        height=16,
        width=32,
        num_frames=9,
        num_inference_steps=nano.STEPS,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).frames
    made = flow.sample(
        pipe.transformer,
        torch.zeros(1, 12, 3, 2, 4),
        embed(pipe.tokenizer, pipe.text_encoder, ["pan left"]),
        noise_BZLHW=noise,
        steps=nano.STEPS,
        shift=nano.FLOW_SHIFT,
    )
    assert torch.allclose(made, film, atol=1e-5)


@pytest.mark.parametrize("muon", [True, False])
def test_a_run_resumed_after_a_kill_ends_with_the_same_bits(tmp_path: Path, muon: bool) -> None:
    recipe = tiny(muon=muon, decay=0.5, block=2, pool=2, uses=2 - int(muon), ahead=int(muon))
    whole = Trainer(recipe, tmp_path / "whole", steps=6)
    whole.run()
    killed = Trainer(recipe, tmp_path / "killed", steps=6)
    for _ in range(3):
        killed.train_step()
    killed.save()
    killed.train_step()  # lost
    (tmp_path / "killed" / "checkpoints" / ".checkpoint-000000009.partial").mkdir()  # half written
    resumed = Trainer(recipe, tmp_path / "killed", steps=6)
    assert resumed.step == 3
    resumed.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert whole.ema is not None
    assert resumed.ema is not None
    for one, other in zip(whole.ema.shadow_params, resumed.ema.shadow_params, strict=True):
        assert torch.equal(one, other)
    assert (whole.examples, whole.untrained) == (resumed.examples, resumed.untrained)
    kept = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-000000003", "checkpoint-000000006"]
    with pytest.raises(ValueError, match="holds a run of tiny"):
        Trainer(replace(recipe, name="other"), tmp_path / "killed")


def test_a_run_begun_with_other_weights_is_told_to_name_them_again(tmp_path: Path) -> None:
    """A recipe's own model may have another shape than the one that it was begun with."""
    first = Trainer(tiny(), tmp_path / "first", steps=1)
    first.run()
    wider = tiny(replace(STUDY, size=replace(SIZE, layers=2)))
    init = latest(tmp_path / "first")
    Trainer(wider, tmp_path / "run", init=init, steps=1).run()
    with pytest.raises(ValueError, match="of another shape; if it was begun with --init, that"):
        Trainer(wider, tmp_path / "run", steps=2)
    assert Trainer(wider, tmp_path / "run", init=init, steps=2).step == 1


def test_batches_drawn_ahead_are_those_drawn_at_once(tmp_path: Path) -> None:
    """A thread changes nothing: not even where a shape's time ends with the run's progress."""
    runs = {}
    for ahead in (0, 2):
        run = Trainer(tiny(ahead=ahead, block=3), tmp_path / str(ahead), steps=10)
        run.run()
        runs[ahead] = run
    for one, other in zip(runs[0].model.parameters(), runs[2].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_drawn_serves_for_several_steps() -> None:
    class Counting:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            seeds.append(seed)
            return {"x": len(seeds) * 10 + torch.arange(repeat)}

    seeds: list[int] = []
    draws = Draws(Counting(), seed=0, rank=0, steps=10, block=2, uses=2)
    drawn = batches(draws, first=1, ahead=0, device=torch.device("cpu"))
    assert [int(next(drawn)["x"]) for _ in range(5)] == [11, 10, 11, 20, 21]
    assert seeds == [draws.seed_of(0), draws.seed_of(4)]
    seeds.clear()
    draws = Draws(Counting(), seed=0, rank=0, steps=10, block=2, pool=2, uses=2)
    drawn = batches(draws, first=0, ahead=0, device=torch.device("cpu"))
    assert [int(next(drawn)["x"]) for _ in range(9)] == [10, 11, 20, 21, 10, 11, 20, 21, 30]
    assert seeds == [draws.seed_of(step) for step in (0, 2, 8, 10)]


def test_a_fault_in_a_draw_ahead_is_raised_where_the_batch_is_asked_for() -> None:
    class Broken:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            raise ZeroDivisionError("a draw failed")

    draws = Draws(Broken(), seed=0, rank=0, steps=10, block=2)
    drawn = batches(draws, first=0, ahead=2, device=torch.device("cpu"))
    with pytest.raises(ZeroDivisionError, match="a draw failed"):
        next(drawn)


def test_batches_that_nobody_asks_for_leave_no_thread_behind() -> None:
    class Endless:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            return {"x": torch.zeros(repeat)}

    draws = Draws(Endless(), seed=0, rank=0, steps=10, block=2)
    before = threading.active_count()
    drawn = batches(draws, first=0, ahead=2, device=torch.device("cpu"))
    drawn.close()
    assert threading.active_count() == before
    drawn = batches(draws, first=1, ahead=2, device=torch.device("cpu"))
    next(drawn)
    assert threading.active_count() == before + 1
    drawn.close()
    assert threading.active_count() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams are a GPU's")
def test_a_batch_may_lie_in_main_memory() -> None:
    """Stored clips and the rows of pairs do, and are drawn ahead as well."""

    class Mixed:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            return {"there": torch.zeros(repeat, device="cuda"), "here": torch.ones(repeat)}

    draws = Draws(Mixed(), seed=0, rank=0, steps=10, block=2)
    drawn = batches(draws, first=0, ahead=2, device=torch.device("cuda"))
    assert [batch["here"].item() for batch in (next(drawn), next(drawn))] == [1, 1]
    drawn.close()


def test_muon_steps_as_torchs_own() -> None:
    torch.manual_seed(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5)]
    ours, theirs = (
        [
            torch.nn.Parameter(torch.randn(s, generator=torch.Generator().manual_seed(i)))
            for i, s in enumerate(shapes)
        ]
        for _ in range(2)
    )
    mine = Muon(ours, lr=1e-2, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-3)  # its matrices are rounded to bfloat16


def test_the_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    run = Trainer(tiny(warmup=10, decay=0.25, learning_rate=1e-3), tmp_path)
    assert run._rate(0.0) == pytest.approx(1e-4)
    run.step = 100
    assert run._rate(0.5) == run._rate(0.75) == pytest.approx(1e-3)
    assert run._rate(0.875) == pytest.approx(5e-4)
    assert run._rate(1.0) == 0


def test_an_export_is_a_folder_that_the_pipeline_renders_with(tmp_path: Path) -> None:
    run = Trainer(tiny(replace(STUDY, sampling=True)), tmp_path, steps=9)
    run.train_step()
    run.export()
    folder = run.export()  # a second time over the first
    assert latest(tmp_path) == folder
    facts = json.loads((folder / "training.json").read_text())
    assert (facts["step"], facts["examples"]) == (1, 2)
    card = (folder / "README.md").read_text()
    assert "smoke: barely trained" in card
    for name in ("loss", "motion", "flicker", "sharpness"):
        now, then = facts["scores"][name], facts["untrained"][name]
        assert f"| {name} | {now:.4g} | {then:.4g} |" in card
    pipe = DreaMontagePipeline.from_pretrained(folder)
    assert (pipe.geometry.window_latents, pipe.geometry.tail_latents) == (13, 2)
    assert pipe.config.maturity == "smoke"
    assert pipe.transformer.dtype == torch.float32
    stored = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    with run._averaged():
        averaged = run._state()
    for name, value in pipe.transformer.named_parameters():
        assert torch.equal(value, averaged[name].half().float()), name
        assert stored[name].dtype == torch.float16
    clip_BCTHW = worlds.clips(0, 1, frames=1, height=16, width=32)[0]
    still = (clip_BCTHW[0, :, 0].movedim(0, -1) * 127.5 + 127.5).byte().numpy()
    film = pipe(
        "[0, 0.5] zoom in; [0.5, 1] the camera pans left",
        conditions=[Keyframe(image=still, frame=7)],
        height=16,
        width=32,
        num_frames=18,
        num_inference_steps=2,
    ).frames
    assert film.shape == (1, 18, 16, 32, 3)


def test_a_sheet_shows_original_conditions_and_sample(tmp_path: Path) -> None:
    Trainer(tiny(replace(STUDY, held_out=1)), tmp_path).sheet()
    (path,) = (tmp_path / "sheets").iterdir()
    assert path.stat().st_size > 1000


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole chain, in some seconds a stage. Its blocks are compiled, as a GPU's are, but for
    the last step, which is the slow one: a process has to bear what five stages ask of the tracer.
    """
    out = tmp_path_factory.mktemp("smoke")
    chain = CHAINS["nano_smoke"]
    parts = tuple((replace(recipe, compiled=True), share) for recipe, share in chain.parts)
    traced = partialmethod(torch.nn.Module.compile, backend="eager")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # The tracer looks at every attribute of a tensor.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor")
        patch.setattr(WanTransformerBlock, "compile", traced)
        patch.setitem(CHAINS, chain.name, replace(chain, parts=parts))
        train("nano_smoke", out, minutes=0.1)
    return out


def test_a_chain_goes_through_every_stage(smoke: Path) -> None:
    stages = [recipe.name for recipe, _ in CHAINS["nano_smoke"].parts]
    assert stages == [
        f"nano_{stage}_smoke"
        for stage in ("base", "adaptive", "expression", "decoder", "superres", "preference")
    ]
    codecs = []
    for stage in stages:
        folder = latest(smoke / stage)
        assert json.loads((folder / "training.json").read_text())["recipe"] == stage
        assert list((smoke / stage / "sheets").glob("*.png"))
        codecs.append(load_file(folder / "vae" / WEIGHTS))
        assert not [path for path in folder.rglob("*.json") if str(smoke) in path.read_text()]
    first, *others = codecs
    for codec in others:
        assert all(torch.equal(first[name], codec[name]) for name in first), "one codec for all"
    finished = ["finish.leave.weight" in codec for codec in codecs]
    assert finished == [False, False, False, True, True, True]


def test_a_chain_goes_on_where_it_was_stopped(smoke: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke, tmp_path / "run", symlinks=True)
    last = tmp_path / "run" / "nano_preference_smoke"
    shutil.rmtree(last)
    before = latest(tmp_path / "run" / "nano_superres_smoke").stat().st_mtime_ns
    assert train("nano_smoke", tmp_path / "run", minutes=0.05) == latest(last)
    assert latest(tmp_path / "run" / "nano_superres_smoke").stat().st_mtime_ns == before


def test_a_chain_goes_on_from_finished_weights(smoke: Path, tmp_path: Path) -> None:
    init = latest(smoke / "nano_expression_smoke")
    last = train("nano_longer_smoke", tmp_path, minutes=0.05, init=init)
    assert last == latest(tmp_path / "nano_preference_smoke")
    start, end = (load_file(folder / "vae" / WEIGHTS) for folder in (init, last))
    assert all(torch.equal(start[name], end[name]) for name in start), "its latents stay the same"


@pytest.mark.parametrize("stage", ["adaptive", "superres"])
def test_a_new_run_goes_on_from_an_exports_weights(smoke: Path, tmp_path: Path, stage: str) -> None:
    recipe = f"nano_{stage}_smoke"
    init = latest(smoke / recipe)
    run = Trainer(RECIPES[recipe], tmp_path, init=init, steps=1)
    exported = nano.load_transformer(init).state_dict()
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, exported[name]), name


def test_the_pairs_are_made_once_and_both_sorts(smoke: Path) -> None:
    held = load_file(smoke / "nano_preference_smoke" / "frozen" / "pairs.safetensors")
    assert len(held["winner"]) > 8
    assert not torch.equal(held["winner"], held["loser"])
    facts = json.loads((latest(smoke / "nano_preference_smoke") / "training.json").read_text())
    assert facts["untrained"]["loss"] == pytest.approx(0.6931, abs=1e-3), "ln 2 at first"


def test_an_unknown_recipe_and_a_chain_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recipe = 'nonsense' must be one of"):
        train("nonsense", tmp_path)
    with pytest.raises(ValueError, match="minutes are missing: nano_smoke is a chain"):
        train("nano_smoke", tmp_path)
    with pytest.raises(ValueError, match="init is missing: nano_longer_smoke goes on from weights"):
        train("nano_longer_smoke", tmp_path, minutes=1)
    for name, value in (("minutes", 0), ("steps", -1)):
        with pytest.raises(ValueError, match=f"{name} = {value} must be more than 0"):
            train("nano_base_smoke", tmp_path, **{name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
@pytest.mark.parametrize("recipe", ["nano_base_h100", "nano_h100", "wan_14b_adaptive_8xh100"])
def test_a_recipe_for_a_gpu_is_not_run_on_a_cpu(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"h100' is for a GPU, and torch finds none here"):
        train(recipe, tmp_path, minutes=1)


def test_a_users_fault_is_a_line_where_only_training_is_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreamontage.training", "--out", tmp_path]
    for asked, told in (
        (["nano_smoke"], "nano_smoke is a chain, and shares them"),
        (["nano_base_smoke", "--steps", "1", "--photos", tmp_path / "no"], "no such folder"),
    ):
        ended = subprocess.run([*command, *asked], capture_output=True, text=True, timeout=300)
        assert ended.returncode == 1
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr


def test_what_fails_while_training_is_no_users_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ValueError from below would be told in a line, and nobody would see where it came from."""

    def fails(*_: object, **__: object) -> None:
        raise ValueError("from deep below")

    monkeypatch.setattr(WindowsObjective, "loss", fails)
    with pytest.raises(RuntimeError, match="nano_base_smoke failed at step 0: from deep") as told:
        train("nano_base_smoke", tmp_path, steps=1)
    assert isinstance(told.value.__cause__, ValueError)


def test_who_only_trains_needs_nothing_for_media_or_the_farm() -> None:
    """As docs/training.md says: machines with a GPU are not always ours to install on."""
    absent = "av ffmpeg imageio_ffmpeg cv2 scenedetect typer rich prefect sqlalchemy minio"
    script = f"""
import sys
sys.modules.update(dict.fromkeys({absent.split()}))
import dreamontage.training.__main__
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_a_start_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        train("nano_base_smoke", tmp_path / "a", steps=1, init=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="init: a preference is learnt by weights"):
        train("nano_preference_smoke", tmp_path / "b", steps=1)


def test_a_start_that_is_another_kind_of_model(smoke: Path, tiny_i2v: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no nano model; its autoencoder is AutoencoderKLWan"):
        train("nano_adaptive_smoke", tmp_path / "a", steps=1, init=tiny_i2v)
    larger = latest(smoke / "nano_superres_smoke")
    with pytest.raises(ValueError, match="its model takes 52 channels and not 36"):
        train("nano_adaptive_smoke", tmp_path / "b", steps=1, init=larger)


def test_a_half_written_folder_never_takes_the_place_of_a_whole_one(tmp_path: Path) -> None:
    checkpoint.write_folder(tmp_path / "a", lambda path: (path / "x").touch())

    def fail(path: Path) -> None:
        (path / "y").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoint.write_folder(tmp_path / "a", fail)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_two_processes_may_write_one_file_at_once(tmp_path: Path) -> None:
    """As those of one run do, which all need the embedding of the same prompt."""
    file = tmp_path / "file"

    def first(path: Path) -> None:
        path.write_text("first")
        checkpoint.write_file(file, lambda other: other.write_text("second"))
        assert file.read_text() == "second"

    checkpoint.write_file(file, first)
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]
