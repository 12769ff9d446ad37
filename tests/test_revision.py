"""A pipeline's revision: the name of all that determines latents, as the pipeline is now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from dreamontage import DreaMontagePipeline
from dreamontage.models.folder import folder_revision
from dreamontage.pipeline.acceleration import SpeedOptions, apply, revision
from tests.support.tiny import lora, tiny_transformer


@pytest.fixture
def pipe(tiny_i2v: Path) -> DreaMontagePipeline:
    return DreaMontagePipeline.from_pretrained(tiny_i2v)


def test_a_grown_model_is_another(tiny_t2v: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_t2v)
    pipe.transformer.grow_input(3 * pipe.transformer.config.in_channels)
    assert pipe.revision != folder_revision(tiny_t2v)


def test_an_untouched_folders_is_that_of_its_files(
    pipe: DreaMontagePipeline, tiny_i2v: Path
) -> None:
    assert pipe.revision == folder_revision(tiny_i2v)
    pipe.to(torch.float32)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    assert pipe.revision == folder_revision(tiny_i2v), "an equal scheduler changes nothing"


def test_another_scheduler_changes_it_and_the_folders_brings_it_back(
    pipe: DreaMontagePipeline,
) -> None:
    own, before = pipe.scheduler, pipe.revision
    others: list[Any] = [
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        FlowMatchEulerDiscreteScheduler(shift=5.0),
        UniPCMultistepScheduler.from_config(own.config, flow_shift=5.0),
    ]
    found = set()
    for pipe.scheduler in others:
        found.add(pipe.revision)
    assert len(found | {before}) == 4
    pipe.scheduler = own
    assert pipe.revision == before


def test_settings_that_determine_latents_change_it(tiny_i2v: Path) -> None:
    found = set()
    for name, value in {
        "initial_noise_scale": 0.5,
        "conditioning": "interm",
        "max_sequence_length": 64,
    }.items():
        pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
        pipe.register_to_config(**{name: value})
        found.add(pipe.revision)
        found.add(DreaMontagePipeline.from_pretrained(tiny_i2v, **{name: value}).revision)
    assert folder_revision(tiny_i2v) not in found
    assert len(found) == 6
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    pipe.register_to_config(default_steps=3, window_latents=9)
    assert pipe.revision == folder_revision(tiny_i2v), "keys hold these by themselves"


@pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")
def test_an_adapter_counts_by_its_weights_and_scale_and_not_by_its_name(
    pipe: DreaMontagePipeline, tiny_i2v: Path
) -> None:
    before = pipe.revision
    pipe.load_lora_weights(lora(1), adapter_name="one")
    loaded = pipe.revision
    pipe.set_adapters(["one"], [0.5])
    half = pipe.revision
    assert len({before, loaded, half}) == 3
    pipe.load_lora_weights(lora(2), adapter_name="two")
    pipe.set_adapters(["one", "two"], [0.5, 1.0])
    both = pipe.revision
    pipe.set_adapters(["two"], [1.0])
    second = pipe.revision
    assert len({before, loaded, half, both, second}) == 5
    pipe.set_adapters(["one"], [0.5])
    assert pipe.revision == half

    again = DreaMontagePipeline.from_pretrained(tiny_i2v)
    again.load_lora_weights(lora(1), adapter_name="another name")
    assert again.revision == loaded
    again.set_adapters(["another name"], [0.5])
    assert again.revision == half


def test_without_its_adapters_a_pipeline_is_the_folders_again(pipe: DreaMontagePipeline) -> None:
    before = pipe.revision
    pipe.load_lora_weights(lora(1), adapter_name="one")
    loaded = pipe.revision
    pipe.disable_lora()
    assert pipe.revision == before
    pipe.enable_lora()
    assert pipe.revision == loaded
    pipe.unload_lora_weights()
    assert pipe.revision == before


def test_weights_written_to_after_loading_count(pipe: DreaMontagePipeline) -> None:
    pipe.load_lora_weights(lora(1), adapter_name="one")
    before = pipe.revision
    weight = next(value for name, value in pipe.transformer.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        weight.mul_(2)
    changed = pipe.revision
    assert changed != before
    with torch.no_grad():
        weight.div_(2)
    assert pipe.revision == before


def test_a_fused_adapter_stays_in_the_weights(pipe: DreaMontagePipeline, tiny_i2v: Path) -> None:
    before = pipe.revision

    def fused(pipe: DreaMontagePipeline, scale: float) -> str:
        pipe.load_lora_weights(lora(1), adapter_name="one")
        pipe.fuse_lora(lora_scale=scale)
        return pipe.revision

    found = fused(pipe, 0.7)
    assert found == fused(DreaMontagePipeline.from_pretrained(tiny_i2v), 0.7)
    assert found != fused(DreaMontagePipeline.from_pretrained(tiny_i2v), 0.5)
    pipe.unload_lora_weights()
    assert pipe.revision != before
    other = DreaMontagePipeline.from_pretrained(tiny_i2v)
    fused(other, 0.7)
    other.unfuse_lora()
    other.unload_lora_weights()
    assert other.revision != before, "subtracting rounds"


def test_a_component_from_elsewhere_is_met_nowhere_else(pipe: DreaMontagePipeline) -> None:
    before, own = pipe.revision, pipe.transformer
    pipe.transformer = tiny_transformer(own.config.in_channels, seed=9)
    assert pipe.revision.startswith("unsaved-")
    assert pipe.revision == pipe.revision
    pipe.load_lora_weights(lora(1), adapter_name="one")
    assert pipe.revision.startswith("unsaved-")
    pipe.unload_lora_weights()
    pipe.transformer = own
    assert pipe.revision == before


def test_speed_options_count_as_in_a_plan_whenever_they_are_set(tiny_i2v: Path) -> None:
    options = SpeedOptions(fp8_storage=True)
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    apply(pipe, options)
    assert pipe.revision == revision(folder_revision(tiny_i2v), options)
    other = DreaMontagePipeline.from_pretrained(tiny_i2v)
    for each in (pipe, other):
        each.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    apply(other, options)
    assert pipe.revision == other.revision


def test_a_name_that_is_set_holds_until_something_changes(pipe: DreaMontagePipeline) -> None:
    pipe.load_lora_weights(lora(1), adapter_name="one")
    pipe.revision += " on another device"
    named = pipe.revision
    assert named.endswith(" on another device")
    pipe.set_adapters(["one"], [0.5])
    assert pipe.revision != named
    pipe.set_adapters(["one"], [1.0])
    assert pipe.revision == named


def changed_revision(folder: str) -> str:
    """That of a pipeline with another scheduler and an adapter."""
    pipe = DreaMontagePipeline.from_pretrained(folder)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipe.load_lora_weights(lora(1), adapter_name="one")
    pipe.set_adapters(["one"], [0.25])
    return pipe.revision


def test_two_processes_agree(tiny_i2v: Path) -> None:
    script = (
        "import sys; from tests.test_revision import changed_revision as it; print(it(sys.argv[1]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, tiny_i2v],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert found.stdout.split()[-1] == changed_revision(str(tiny_i2v))
