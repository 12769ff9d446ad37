"""A denoise loop stopped after any step and resumed in a new process gives the same bits as one
never stopped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.sampling import Denoiser, denoise, state_from_bytes, state_to_bytes
from tests.fixtures.tiny import TEXT, Z, tiny_transformer

STEPS = 6
SCHEDULERS = {
    "unipc": lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
}


def setup(name: str) -> tuple[Denoiser, object, torch.Tensor]:
    """Two experts, so that a resumed loop also has to pick the right one."""
    experts = []
    for seed in (0, 1):
        stock = tiny_transformer(Z, seed)
        ours = DreaMontageTransformer3DModel.from_config(stock.config).eval()
        ours.load_state_dict(stock.state_dict())
        experts.append(ours)
    generator = torch.Generator().manual_seed(5)
    denoiser = Denoiser(
        experts=experts,
        guidance=[4.0, 3.0],
        boundary=700.0,
        prompt_BSD=torch.randn(1, 5, TEXT, generator=generator),
        negative_prompt_BSD=torch.randn(1, 5, TEXT, generator=generator),
    )
    return denoiser, SCHEDULERS[name](), torch.randn(1, Z, 3, 4, 6, generator=generator)


def finish(name: str, stored: Path) -> torch.Tensor:
    denoiser, scheduler, noise = setup(name)
    state = state_from_bytes(stored.read_bytes())
    rest = denoise(denoiser, scheduler, noise_BCLHW=noise, steps=STEPS, state=state)
    return list(rest)[-1].latents_BCLHW


@pytest.mark.parametrize("name", SCHEDULERS)
def test_resumed_after_any_step(name, tmp_path):
    denoiser, scheduler, noise = setup(name)
    stored = [
        state_to_bytes(state)
        for state in denoise(denoiser, scheduler, noise_BCLHW=noise, steps=STEPS)
    ]
    whole = state_from_bytes(stored[-1]).latents_BCLHW
    for data in stored[:-1]:
        (tmp_path / "state").write_bytes(data)
        assert torch.equal(finish(name, tmp_path / "state"), whole)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_resumed_in_a_new_process(name, tmp_path):
    denoiser, scheduler, noise = setup(name)
    states = list(denoise(denoiser, scheduler, noise_BCLHW=noise, steps=STEPS))
    (tmp_path / "state").write_bytes(state_to_bytes(states[2]))
    script = (
        "import sys, pathlib, safetensors.torch; from tests.test_resume import finish\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "latents = finish(sys.argv[1], folder / 'state')\n"
        "safetensors.torch.save_file({'latents': latents}, folder / 'latents')"
    )
    subprocess.run(
        [sys.executable, "-c", script, name, tmp_path], check=True, cwd=Path(__file__).parents[1]
    )
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "latents")["latents"], states[-1].latents_BCLHW)


def test_states_are_immutable():
    """Going on does not change a state already yielded: neither its latents nor its history."""
    denoiser, scheduler, noise = setup("unipc")
    loop = denoise(denoiser, scheduler, noise_BCLHW=noise, steps=STEPS)
    next(loop)
    state = next(loop)
    before = state_to_bytes(state)
    for _ in loop:
        pass
    assert state_to_bytes(state) == before


def test_rubbish_is_no_state():
    with pytest.raises(ValueError, match="no stored denoise state"):
        state_from_bytes(b"rubbish")
    denoiser, scheduler, noise = setup("euler")
    data = state_to_bytes(next(denoise(denoiser, scheduler, noise_BCLHW=noise, steps=STEPS)))
    with pytest.raises(ValueError, match="no stored denoise state"):
        state_from_bytes(data[:-10])
