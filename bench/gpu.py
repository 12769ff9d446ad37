"""What only a GPU can show: ``python -m bench.gpu``, a minute or so; a check or a figure a line.

On a machine without one it runs at a small size, which shows that it runs.

Shape legend: B batch, C channels, L latent frames, H W latent height and width, S tokens, D width.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers import WanTransformer3DModel as Stock
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.clock import DEVICE, in_turns, machine, now, seconds
from dreamontage import DreaMontagePipeline
from dreamontage.families.wan import WanModel
from dreamontage.families.wan_text import WanTextTask
from dreamontage.models.autoencoder import decode
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.pipeline.sar import fuse
from dreamontage.planning.cost import _Shape
from dreamontage.planning.segments import Segment, plan_shot
from dreamontage.sampling.denoise import denoise
from dreamontage.sampling.guiders import Branch, PromptGuidance
from dreamontage.sampling.schedulers import with_timesteps
from dreamontage.sampling.state import state_from_bytes, state_to_bytes
from dreamontage.storyboard import PromptSpan

BIG = DEVICE.type == "cuda"
DTYPE = torch.bfloat16 if BIG else torch.float32
LATENTS, HEIGHT, WIDTH = (9, 60, 104) if BIG else (3, 8, 12)  # 33 frames of 832x480
WAN_1_3B: dict[str, Any] = {
    "num_attention_heads": 12 if BIG else 2,
    "attention_head_dim": 128 if BIG else 32,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096 if BIG else 64,
    "freq_dim": 256 if BIG else 64,
    "ffn_dim": 8960 if BIG else 128,
    "num_layers": 30 if BIG else 2,
    "rope_max_seq_len": 1024,
}
TEXT = 512
STEPS = 6
SEGMENTS = (4, 16, 64)


@dataclass
class Models:
    """The same random weights in diffusers' class and in ours, made once on the device."""

    stock: Any = field(init=False)
    ours: Any = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.stock, self.ours = made(Stock), made(DreaMontageTransformer3DModel)
        self.ours.load_state_dict(self.stock.state_dict())


def made(kind: Any, **overrides: Any) -> Any:
    """Random weights on the device; in float32 what `from_pretrained(torch_dtype=...)` keeps so."""
    with torch.device(DEVICE):
        model = kind(**WAN_1_3B | overrides).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.to(DTYPE)
    return model


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def inputs(seed: int = 1) -> dict[str, Any]:
    return {
        "hidden_states": draw(1, 16, LATENTS, HEIGHT, WIDTH, seed=seed).to(DTYPE),
        "timestep": torch.tensor([700.0], device=DEVICE),
        "encoder_hidden_states": draw(1, TEXT, WAN_1_3B["text_dim"], seed=seed + 1).to(DTYPE),
        "return_dict": False,
    }


def difference_text(difference: Tensor, of: Tensor) -> str:
    if not difference.any():
        return "equal to the bit"
    share = float(difference.float().norm() / of.float().norm())
    return f"NOT equal: {share:.1e} of the output's norm"


@torch.no_grad()
def same_as_diffusers(models: Models) -> str:
    (expected,), (made,) = models.stock(**inputs()), models.ours(**inputs())
    return difference_text(made - expected, expected)


@torch.no_grad()
def grown(models: Models) -> str:
    """Last of the checks on these models: it grows ours."""
    given = inputs()
    (expected,) = models.ours(**given)
    models.ours.grow_input(36)
    beside = draw(1, 20, LATENTS, HEIGHT, WIDTH, seed=9).to(DTYPE)
    given["hidden_states"] = torch.cat((given["hidden_states"], beside), 1)
    (made,) = models.ours(**given)
    return difference_text(made - expected, expected)


@torch.no_grad()
def speed(models: Models) -> str:
    given = inputs()
    mine, theirs, ratio = in_turns(
        lambda: seconds(lambda: models.ours(**given)),
        lambda: seconds(lambda: models.stock(**given)),
        5,
    )
    tokens = LATENTS * HEIGHT * WIDTH // 4
    flops = _Shape.read(models.ours.config).flops(tokens, TEXT)
    peak = peak_flops()
    return (
        f"ours {mine * 1e3:.1f} ms, diffusers' {theirs * 1e3:.1f} ms, ratio {ratio:.3f}; "
        f"{flops / mine / 1e12:.0f} TFLOP/s, {flops / mine / peak:.0%} of the "
        f"{peak / 1e12:.0f} TFLOP/s that a large matrix product reaches here"
    )


@torch.no_grad()
def compiled(models: Models) -> str:
    """The blocks compiled one by one, as the pipeline and training do it."""
    given = inputs()
    (before,) = models.ours(**given)
    plain = min(seconds(lambda: models.ours(**given)) for _ in range(4))
    began = now()
    models.ours.compile_repeated_blocks(fullgraph=True, dynamic=True)
    (after,) = models.ours(**given)
    first = now() - began
    fast = min(seconds(lambda: models.ours(**given)) for _ in range(4))
    share = float((after - before).float().norm() / before.float().norm())
    return f"{fast / plain:.2f} of the time, off by {share:.1e}; the first call takes {first:.0f} s"


def peak_flops() -> float:
    """Operations a second of a large matrix product in the models' precision."""
    size = 8192 if BIG else 512
    a, b = (draw(size, size, seed=seed).to(DTYPE) for seed in (3, 4))
    a @ b
    best = min(seconds(lambda: a @ b) for _ in range(10))
    return 2 * size**3 / best


SCHEDULERS: dict[str, Callable[[], Any]] = {
    "UniPC": lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "Euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
}


def loop(scheduler: str, state: bytes | None = None) -> Iterator[Any]:
    """A denoise loop of two small experts in Wan's layout, with guidance."""
    torch.manual_seed(3)
    experts = [made(DreaMontageTransformer3DModel, num_layers=2) for _ in range(2)]
    prompt, negative = (draw(1, TEXT, WAN_1_3B["text_dim"], seed=seed).to(DTYPE) for seed in (5, 6))
    noise_BCLHW = draw(1, 16, LATENTS, HEIGHT, WIDTH, seed=7)
    task = WanTextTask(
        model=WanModel(
            experts=experts,
            guiders=[[PromptGuidance(scale=4.0)], [PromptGuidance(scale=3.0)]],
            prompts={Branch.CONDITIONAL: prompt, Branch.PROMPT_UNCONDITIONAL: negative},
            boundary=700.0,
        ),
        latents=noise_BCLHW,
        scheduler=with_timesteps(SCHEDULERS[scheduler](), STEPS, noise_BCLHW.device),
        generator=None,
    )
    return denoise(task, None if state is None else state_from_bytes(state))


def resumed(scheduler: str) -> str:
    stored = [state_to_bytes(state) for state in loop(scheduler)]
    whole = state_from_bytes(stored[-1]).latents_BCLHW
    for step, state in enumerate(stored[:-1], 1):
        last = deque(loop(scheduler, state), maxlen=1)[0].latents_BCLHW.cpu()
        if not torch.equal(last, whole):
            return f"after step {step}: " + difference_text(last - whole, whole)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "state").write_bytes(stored[2])
        subprocess.run([sys.executable, "-m", "bench.gpu", scheduler, folder], check=True)
        last = load_file(path / "latents")["latents"]
    return f"after each of {STEPS - 1} steps, and in a new process: " + difference_text(
        last - whole, whole
    )


@torch.no_grad()
def memory(weights: Path) -> str:
    """Peak of the device's memory over a shot of many segments, decoded as it goes; what lay there
    before is not in it."""
    before = torch.cuda.memory_allocated() if BIG else 0
    pipe = DreaMontagePipeline.from_pretrained(weights).to(DEVICE)
    geometry, size = pipe.geometry, {"width": 128, "height": 80}
    found = []
    for segments in SEGMENTS if BIG else SEGMENTS[:1]:
        fresh = geometry.window_latents - geometry.tail_latents
        plan = plan_shot(
            frames=4 * (segments * fresh + geometry.tail_latents) - 3,
            fps=Fraction(16),
            prompts=[PromptSpan(text="the camera pans left")],
            conditions=[],
            seed=1,
            geometry=geometry,
        )
        assert len(plan.segments) == segments
        track = pipe.track([], **size)

        def windows(plan: Any = plan, track: Any = track) -> Iterator[tuple[Segment, Tensor]]:
            previous_BCLHW = None
            for segment in plan.segments:
                states = pipe.denoise_segment(
                    segment,
                    track=track,
                    previous_BCLHW=previous_BCLHW,
                    **size,
                    sampler=pipe.sampler(2, 1.0),
                )
                previous_BCLHW = deque(states, maxlen=1)[0].latents_BCLHW
                yield segment, previous_BCLHW

        if BIG:
            torch.cuda.reset_peak_memory_stats()
        began = now()
        frames = sum(run.shape[2] for run in decode(pipe.vae, fuse(windows())))
        each = (now() - began) / segments
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if BIG else float("nan")
        found.append(f"{segments} segments ({frames} frames): {peak:.1f} MiB, {each:.3f} s each")
    return "; ".join(found)


def main(weights: Path) -> None:
    print(machine(), flush=True)
    models = Models()
    checks: dict[str, Callable[[], str]] = {
        "a step of Wan 1.3B beside diffusers'": lambda: same_as_diffusers(models),
        "its speed": lambda: speed(models),
        "16 channels grown to 36": lambda: grown(models),
        "resume, UniPC, two experts": lambda: resumed("UniPC"),
        "resume, Euler, two experts": lambda: resumed("Euler"),
        "memory by length, nano at 128x80": lambda: memory(weights),
        "a step with its blocks compiled": lambda: compiled(Models()),
    }
    for name, check in checks.items():
        try:
            answer = check()
        except Exception:  # the other figures are worth having
            answer = "FAILED\n" + traceback.format_exc()
        print(f"{name}: {answer}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        name, folder = sys.argv[1], Path(sys.argv[2])
        states = loop(name, (folder / "state").read_bytes())
        latents = deque(states, maxlen=1)[0].latents_BCLHW
        save_file({"latents": latents.cpu().contiguous()}, folder / "latents")
    else:
        main(Path(sys.argv[1]) if len(sys.argv) == 2 else Path("weights/nano"))
