"""What is said of each speed option holds: the same bits, other roundings, or so far off."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections import deque
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MagCacheConfig
from diffusers.models.attention_dispatch import AttentionBackendName
from PIL import Image

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.pipeline.acceleration import (
    Exactness,
    FirstBlock,
    Mag,
    SpeedOptions,
    TaylorSeer,
    apply,
    describe,
    mag_ratios,
    parse,
    resumable,
    revision,
)
from dreamontage.pipeline.acceleration.options import ATTENTIONS
from dreamontage.planning.segments import Segment
from dreamontage.sampling.state import state_from_bytes, state_to_bytes
from tests.support.tiny import save_tiny_wan

STEPS = 8
SIDE = 64
FIRST_BLOCK = FirstBlock(threshold=0.2)
MAG = Mag(ratios=(1.0,) * STEPS)
TAYLOR = TaylorSeer(interval=3, warmup=2)
STILL = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))

EXACT = [
    SpeedOptions(),
    SpeedOptions(attention="native"),
    SpeedOptions(group_offload="leaf"),
    SpeedOptions(group_offload="block"),
    SpeedOptions(compile="aot_eager"),
]
# With how far off the latents are at most, relative, on the tiny model.
APPROXIMATE = [
    (SpeedOptions(step_cache=FIRST_BLOCK), 0.05),
    (SpeedOptions(step_cache=MAG), 0.05),
    (SpeedOptions(step_cache=TAYLOR), 0.02),
    (SpeedOptions(fp8_storage=True), 0.03),
    (SpeedOptions(fp8_storage=True, group_offload="leaf", step_cache=FIRST_BLOCK), 0.06),
]
CACHES = [FIRST_BLOCK, MAG, TAYLOR]
torchao = importlib.util.find_spec("torchao")


def loaded(folder: Path, options: SpeedOptions | None = None) -> DreaMontagePipeline:
    pipe = DreaMontagePipeline.from_pretrained(folder)
    if options is not None:
        apply(pipe, options)
    return pipe


def states_of(pipe, latents=3, steps=STEPS, image_guidance=1.0, **kwargs):
    """A segment of so many latents; its length is in its prompt and noise too."""
    segment = Segment(
        index=0,
        start=0,
        stop=latents,
        tail=0,
        prompt=f"{latents} cats",
        conditions=(0,),
        seed=latents,
        has_image_condition=True,
    )
    return pipe.denoise_segment(
        segment,
        track=pipe.track([Keyframe(image=STILL, frame=0)], SIDE, SIDE),
        previous_BCLHW=None,
        height=SIDE,
        width=SIDE,
        sampler=pipe.sampler(steps, 3.0, image_guidance=image_guidance),
        **kwargs,
    )


def latents_of(pipe, latents=3, **kwargs):
    return deque(states_of(pipe, latents, **kwargs), maxlen=1)[0].latents_BCLHW


def error(latents, reference) -> float:
    return float((latents - reference).norm() / reference.norm())


def name(value) -> str:
    """An id for a parameter: an option's name and, where it is short, its setting."""
    if not isinstance(value, SpeedOptions):
        return "says"
    chosen = (f"{key}={str(setting).split('(')[0]}" for key, setting in value.chosen.items())
    return "+".join(chosen) or "none"


@pytest.fixture(scope="module")
def plain(tiny_i2v):
    """Latents without any option, of 2 and of 3 latents' length."""
    pipe = loaded(tiny_i2v)
    return {length: latents_of(pipe, length) for length in (2, 3)}


@pytest.mark.parametrize("options", EXACT, ids=name)
def test_exact_means_the_same_bits(options, tiny_i2v, plain):
    pipe = loaded(tiny_i2v, options)
    assert all(effect.exactness is Exactness.EXACT for effect in describe(options))
    assert torch.equal(latents_of(pipe, 3), plain[3])
    assert torch.equal(latents_of(pipe, 2), plain[2])
    assert pipe.revision == loaded(tiny_i2v).revision


def test_another_attention_kernel_rounds_otherwise(tiny_i2v, plain):
    options = SpeedOptions(attention="_native_math")
    (effect,) = describe(options)
    assert effect.exactness is Exactness.ROUNDING
    latents = latents_of(loaded(tiny_i2v, options))
    assert not torch.equal(latents, plain[3])
    assert error(latents, plain[3]) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_inductor_rounds_otherwise(tiny_i2v, plain):
    """Slow: C++ is compiled. The quick run has "aot_eager", which goes the same way up to there."""
    options = SpeedOptions(compile="inductor")
    (effect,) = describe(options)
    assert effect.exactness is Exactness.ROUNDING
    pipe = loaded(tiny_i2v, options)
    assert error(latents_of(pipe, 3), plain[3]) < 1e-5
    assert error(latents_of(pipe, 2), plain[2]) < 1e-5


@pytest.mark.parametrize(("options", "bound"), APPROXIMATE, ids=name)
def test_approximate_is_off_by_no_more_than_said(options, bound, tiny_i2v, plain):
    assert Exactness.APPROXIMATE in {effect.exactness for effect in describe(options)}
    latents = latents_of(loaded(tiny_i2v, options))
    assert not torch.equal(latents, plain[3])
    assert error(latents, plain[3]) < bound


@pytest.mark.skipif(torchao is None, reason="torchao is not installed")
@pytest.mark.parametrize("kind", ["int8", "int8-dynamic", "fp8"])
def test_quantised_is_off_by_no_more_than_said(kind, tiny_i2v, plain):
    latents = latents_of(loaded(tiny_i2v, SpeedOptions(quantise=kind)))
    assert not torch.equal(latents, plain[3])
    assert error(latents, plain[3]) < 0.02


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: type(cache).__name__)
def test_caches_start_empty_at_every_segment(cache, tiny_i2v):
    options = SpeedOptions(step_cache=cache)
    alone = {length: latents_of(loaded(tiny_i2v, options), length) for length in (2, 3)}
    pipe = loaded(tiny_i2v, options)
    for length in (3, 2, 2, 3):
        assert torch.equal(latents_of(pipe, length), alone[length])
    broken_off = states_of(pipe)
    for _ in range(4):
        next(broken_off)
    assert torch.equal(latents_of(pipe, 3), alone[3])


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: type(cache).__name__)
def test_a_cache_keeps_apart_what_each_guidance_asks(cache, tiny_i2v):
    """The prompt's and the conditions' at once: three calls a step, each with a history."""
    (bound,) = (most for options, most in APPROXIMATE if options.chosen == {"step_cache": cache})
    pipe = loaded(tiny_i2v, SpeedOptions(step_cache=cache))
    reference = latents_of(loaded(tiny_i2v), image_guidance=2.0)
    assert 0 < error(latents_of(pipe, image_guidance=2.0), reference) < bound


def test_a_shot_of_segments_goes_through_a_cache(tiny_ours):
    """The pipeline's own call, SAR and all, gives the same shot twice."""
    pipe = loaded(tiny_ours, SpeedOptions(step_cache=FIRST_BLOCK))
    call = {"height": SIDE, "width": SIDE, "num_frames": 37, "output_type": "latent"}
    first = pipe("a cat", **call).frames
    assert torch.equal(pipe("a cat", **call).frames, first)
    plain = loaded(tiny_ours)("a cat", **call).frames
    assert 0 < error(first, plain) < 0.05


@pytest.mark.parametrize(
    "options",
    [SpeedOptions(fp8_storage=True), SpeedOptions(attention="_native_math", group_offload="leaf")],
    ids=name,
)
def test_resumable_options_resume_bit_for_bit(options, tiny_i2v):
    assert resumable(options)
    states = list(states_of(loaded(tiny_i2v, options)))
    stored = state_from_bytes(state_to_bytes(states[2]))
    resumed = latents_of(loaded(tiny_i2v, options), state=stored)
    assert torch.equal(resumed, states[-1].latents_BCLHW)


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: type(cache).__name__)
def test_a_cache_refuses_to_resume(cache, tiny_i2v):
    options = SpeedOptions(step_cache=cache)
    assert not resumable(options)
    pipe = loaded(tiny_i2v, options)
    state = next(states_of(pipe))
    with pytest.raises(ValueError, match=r"state: .* cannot go on from step 1 with step_cache"):
        states_of(pipe, state=state)


def test_both_experts_get_the_options(tiny_a14b):
    whole = latents_of(loaded(tiny_a14b))
    pipe = loaded(tiny_a14b, SpeedOptions(fp8_storage=True))
    for expert in (pipe.transformer, pipe.transformer_2):
        assert expert.blocks[0].ffn.net[2].weight.dtype == torch.float8_e4m3fn
    assert 0 < error(latents_of(pipe), whole) < 0.05
    with pytest.raises(ValueError, match=r"step_cache = Mag .* two experts"):
        apply(loaded(tiny_a14b), SpeedOptions(step_cache=MAG))


def test_attention_stays_with_its_pipeline(tiny_i2v, plain):
    """diffusers would set it for every model in the process."""
    apply(loaded(tiny_i2v), SpeedOptions(attention="_native_math"))
    assert torch.equal(latents_of(loaded(tiny_i2v)), plain[3])


def test_mag_ratios_are_those_that_diffusers_measures(tiny_i2v, capsys):
    pipe = loaded(tiny_i2v)
    ours = mag_ratios(pipe.transformer, states_of(pipe))
    pipe.transformer.enable_cache(
        MagCacheConfig(calibrate=True, num_inference_steps=STEPS, mag_ratios=None)
    )
    capsys.readouterr()
    latents_of(pipe)
    # It prints a list for each of the two calls of a step, the one with the prompt first.
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[1.0")]
    assert ours == pytest.approx(ast.literal_eval(printed[0]), rel=1e-4)
    assert len(set(ours)) == STEPS
    assert latents_of(loaded(tiny_i2v, SpeedOptions(step_cache=Mag(ratios=ours)))).isfinite().all()


def test_mag_refuses_another_number_of_steps(tiny_i2v):
    pipe = loaded(tiny_i2v, SpeedOptions(step_cache=MAG))
    with pytest.raises(ValueError, match=r"holds 8 numbers, one a step, and .* has 5 steps"):
        states_of(pipe, steps=5)


def test_a_revision_tells_apart_what_gives_other_bits():
    tried = [
        *(options for options, _ in APPROXIMATE),
        SpeedOptions(attention="_native_math"),
        SpeedOptions(compile="inductor"),
        SpeedOptions(step_cache=FirstBlock(threshold=0.3)),
    ]
    revisions = {revision("abc", options) for options in tried}
    assert len(revisions) == len(tried)
    assert "abc" not in revisions
    assert {revision("abc", options) for options in EXACT} == {"abc"}
    # Golden: segments stored under it have to be found again.
    assert revision("abc", SpeedOptions(fp8_storage=True)).startswith("f6f66ab8")


def test_every_option_is_described():
    chosen = {
        "compile": SpeedOptions(compile="inductor"),
        "attention": SpeedOptions(attention="sage"),
        "step_cache": SpeedOptions(step_cache=MAG),
        "group_offload": SpeedOptions(group_offload="leaf"),
        "fp8_storage": SpeedOptions(fp8_storage=True),
        "quantise": SpeedOptions(quantise="int8"),
        "batched_guidance": SpeedOptions(batched_guidance=True),
        "context_parallel": SpeedOptions(context_parallel=2),
    }
    assert chosen.keys() == {field.name for field in fields(SpeedOptions)}
    for option, options in chosen.items():
        (effect,) = describe(options)
        assert effect.option == option
        assert effect.note
        assert effect.resumable == (option != "step_cache")


def test_attention_backends_are_those_of_diffusers():
    assert sorted(ATTENTIONS) == sorted(backend.value for backend in AttentionBackendName)


def test_options_are_recorded_without_torch():
    """Who plans asks what an option does to a key, and need not load a model for that."""
    code = (
        "import sys; from dreamontage.pipeline.acceleration import parse, revision, to_record\n"
        "to_record(parse('attention: flash')); revision('m', parse('step_cache: first_block'))\n"
        "print(*{'torch', 'diffusers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", SpeedOptions()),
        ("attention: native", SpeedOptions(attention="native")),
        (
            "{group_offload: leaf, fp8_storage: true}",
            SpeedOptions(group_offload="leaf", fp8_storage=True),
        ),
        ("step_cache: taylor_seer", SpeedOptions(step_cache=TaylorSeer())),
        ("step_cache: {first_block: {threshold: 0.2}}", SpeedOptions(step_cache=FIRST_BLOCK)),
        (
            '{"step_cache": {"mag": {"ratios": [1, 0.9]}}}',
            SpeedOptions(step_cache=Mag(ratios=(1.0, 0.9))),
        ),
    ],
)
def test_options_are_read_as_they_are_written(text, options):
    assert parse(text) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", r"'\[' cannot be read; write options as {attention: native}"),
        ("attention: a, attention: b", "cannot be read; .* the field 'attention' is given twice"),
        ("fp8_storage: !!bool maybe", "cannot be read; .* 'maybe' is no bool"),
        ("compile: off", "compile = 'off' must be one of inductor"),
        ("native", "native is no option; there are compile, attention"),
        ("fp8_storage: maybe", "fp8_storage = 'maybe': input should be a valid boolean"),
        ("step_cache: foo", "step_cache = 'foo' must be one of first_block, mag, taylor_seer"),
        ("step_cache: {first_block: {treshold: 1}}", "step_cache.treshold is no option; there are"),
        ("step_cache: {first_block: {threshold: x}}", "step_cache.threshold = 'x': input should"),
        ("step_cache: {first_block: {threshold: 0}}", "step_cache.threshold = 0.0 must be more"),
        ("step_cache: {first_block: 3}", "step_cache must hold settings: threshold"),
        ("{compile: eager, fp8_storage: true}", "compile and fp8_storage exclude each other"),
    ],
)
def test_what_cannot_be_read_names_field_and_rule(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"compile": "fast"}, "compile = 'fast' must be one of inductor, aot_eager, eager"),
        ({"attention": "quick"}, "attention = 'quick' must be one of .*native"),
        ({"group_offload": "model"}, "group_offload = 'model' must be one of block, leaf"),
        ({"quantise": "int2"}, "quantise = 'int2' must be one of int8"),
        ({"context_parallel": 0}, "context_parallel = 0 must be at least 1"),
        ({"step_cache": FirstBlock(threshold=0)}, "step_cache.threshold = 0 must be more than 0"),
        ({"step_cache": Mag(ratios=())}, "step_cache.ratios must hold one number a step"),
        ({"step_cache": Mag(ratios=(1.0,), retention=2)}, "step_cache.retention = 2 must be from"),
        ({"step_cache": Mag(ratios=(1.0,), max_skips=0)}, "step_cache.max_skips = 0 must be at"),
        ({"step_cache": TaylorSeer(interval=1)}, "step_cache.interval = 1 must be at least 2"),
        ({"compile": "eager", "step_cache": TAYLOR}, "compile and step_cache exclude each other"),
        ({"compile": "eager", "fp8_storage": True}, "compile and fp8_storage exclude each other"),
        ({"quantise": "int8", "fp8_storage": True}, "quantise and fp8_storage exclude each other"),
        (
            {"context_parallel": 2, "step_cache": FIRST_BLOCK},
            "FirstBlock and context_parallel exclude each other",
        ),
    ],
)
def test_a_wrong_setting_names_field_and_rule(given, message):
    with pytest.raises(ValueError, match=message):
        SpeedOptions(**given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SpeedOptions(attention="flash"), "attention = 'flash' needs CUDA"),
        pytest.param(
            SpeedOptions(quantise="int8"),
            "quantise = 'int8' needs the package torchao",
            marks=pytest.mark.skipif(torchao is not None, reason="torchao is installed"),
        ),
        pytest.param(
            SpeedOptions(context_parallel=2),
            "context_parallel = 2 needs CUDA",
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=name,
)
def test_unsupported_options_are_reported_before_anything_changes(options, message, tiny_i2v):
    pipe = loaded(tiny_i2v)
    before = pipe.revision
    with pytest.raises(ValueError, match=message):
        apply(pipe, options)
    assert pipe.revision == before
    apply(pipe, SpeedOptions())


def test_options_are_applied_once(tiny_i2v):
    pipe = loaded(tiny_i2v, SpeedOptions())
    with pytest.raises(ValueError, match="were applied to this pipeline before"):
        apply(pipe, SpeedOptions(fp8_storage=True))


def rank(folder: str) -> None:
    """One of two processes that share a sequence; see the test below."""
    torch.distributed.init_process_group("gloo")
    # diffusers takes the rank modulo the number of accelerators, which is none on a CPU.
    torch.accelerator.device_count = lambda: 1
    options = SpeedOptions(context_parallel=2)
    whole = latents_of(loaded(Path(folder)))
    pipe = loaded(Path(folder), options)
    assert torch.equal(latents_of(pipe), whole)
    with pytest.raises(ValueError, match="context_parallel = 3 needs as many processes"):
        loaded(Path(folder), SpeedOptions(context_parallel=3))
    odd = Segment(index=0, start=0, stop=3, tail=0, prompt="", conditions=(), seed=0)
    with pytest.raises(
        ValueError, match="must divide a window's tokens; 3 latents of 48x48 are 27"
    ):
        pipe.denoise_segment(odd, height=48, width=48, sampler=pipe.sampler())


@pytest.mark.slow
def test_two_processes_share_a_sequence(tmp_path):
    """Slow: two processes load torch."""
    folder = save_tiny_wan(tmp_path / "i2v", "i2v")
    script = f"from tests.test_speed import rank; rank({str(folder)!r})"
    (tmp_path / "rank.py").write_text(script)
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", tmp_path / "rank.py"),
        ],
        check=True,
        cwd=Path(__file__).parents[1],
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )
