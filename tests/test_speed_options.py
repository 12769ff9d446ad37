"""Speed options: how they are written, described, recorded and refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from dreamontage.pipeline.acceleration import (
    FirstBlock,
    Mag,
    SpeedOptions,
    TaylorSeer,
    apply,
    describe,
    parse,
    revision,
)
from dreamontage.pipeline.acceleration.options import ATTENTIONS
from tests.support.speed import (
    APPROXIMATE,
    EXACT,
    FIRST_BLOCK,
    MAG,
    TAYLOR,
    loaded,
    option_id,
    torchao,
)


def test_a_revision_tells_apart_what_gives_other_bits() -> None:
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


def test_every_option_is_described() -> None:
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


def test_attention_backends_are_those_of_diffusers() -> None:
    assert sorted(ATTENTIONS) == sorted(backend.value for backend in AttentionBackendName)


def test_options_are_recorded_without_torch() -> None:
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
def test_options_are_read_as_they_are_written(text: str, options: SpeedOptions) -> None:
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
def test_what_cannot_be_read_names_field_and_rule(text: str, message: str) -> None:
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
def test_a_wrong_setting_names_field_and_rule(given: dict[str, Any], message: str) -> None:
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
    ids=option_id,
)
def test_unsupported_options_are_reported_before_anything_changes(
    options: SpeedOptions, message: str, tiny_i2v: Path
) -> None:
    pipe = loaded(tiny_i2v)
    before = pipe.revision
    with pytest.raises(ValueError, match=message):
        apply(pipe, options)
    assert pipe.revision == before
    apply(pipe, SpeedOptions())


def test_options_are_applied_once(tiny_i2v: Path) -> None:
    pipe = loaded(tiny_i2v, SpeedOptions())
    with pytest.raises(ValueError, match="were applied to this pipeline before"):
        apply(pipe, SpeedOptions(fp8_storage=True))
