"""Trains the cut discriminator on procedural clips with synthetic cuts; the paper used 10k clips.

A clip is rendered at one to three times its pace. Some get a passing subject in front, and some a
change of light. Then a cut of a random level is added; a third get none. Last, all clips get the
degradations of weak models, with and without a cut alike.

Shapes: B clips, T frames, K bounds between levels.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.models import bundled
from dreamontage.models.codec import LinearCodec
from dreamontage.scorer.discriminator import LEVELS, WEIGHTS, CutDiscriminator
from dreamontage.storyboard.seeds import derive
from dreamontage.training.synthetic import cuts, degradations, motion_faults, worlds
from dreamontage.training.synthetic.captions import SURFACES

HELD_OUT_SURFACE = "stones"
"""No clip with this surface is trained on. Training uses no photos either."""

assert HELD_OUT_SURFACE in SURFACES

_RENDERED = 80  # the most frames to render for a clip at a higher pace
# A passage or a change of style at a higher pace would be almost a cut.
_QUICK = worlds.Mixture(expressions=(0.5, 0.0, 0.25, 0.25, 0.0))
_SMEAR = 3  # frames on either side over which a codec may spread a cut


@dataclass(frozen=True, kw_only=True)
class CutRecipe:
    name: str
    steps: int = 2000
    batch: int = 16
    learning_rate: float = 2e-3
    frames: tuple[int, ...] = (17, 25, 33, 33, 49)
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64), (48, 80), (80, 48))
    seed: int = 0
    device: str = "cpu"


def scorer_cuts_cpu() -> CutRecipe:
    """The cut discriminator on one thread: about 25,000 clips, an hour; less with `--minutes`."""
    return CutRecipe(name="scorer_cuts_cpu")


def scorer_cuts_smoke() -> CutRecipe:
    """A few steps, to check that everything runs."""
    return CutRecipe(name="scorer_cuts_smoke", steps=3, batch=4, frames=(17,), sizes=((32, 32),))


RECIPES: dict[str, Callable[[], CutRecipe]] = {
    recipe.__name__: recipe for recipe in (scorer_cuts_cpu, scorer_cuts_smoke)
}


@dataclass(frozen=True, kw_only=True)
class LabelledClips:
    """The discriminator's inputs, and the cuts in them."""

    clips_BCTHW: Tensor
    levels_B: Tensor
    severities_B: Tensor
    where_BT: Tensor
    kinds: list[cuts.CutKind]

    def __len__(self) -> int:
        return len(self.kinds)


def draw(
    seed: int,
    batch: int,
    *,
    frames: int = 33,
    height: int = 64,
    width: int = 64,
    codec: LinearCodec | None,
    device: torch.device | str = "cpu",
    surfaces: Callable[[str], bool] = lambda prompt: True,
    photos_NCHW: Tensor | None = None,
    good: float = 1 / 3,
) -> LabelledClips:
    """Labelled clips of worlds of `seed`: at most `batch`, those whose prompt passes `surfaces`.

    A share `good` of them has no cut.
    """
    paces = [pace for pace in (1, 1, 2, 3) if pace * frames <= _RENDERED]
    pace = random.Random(seed).choice(paces or [1])
    clips_BCTHW, prompts, _ = worlds.clips(
        derive(seed, "worlds"),
        batch,
        frames=1 + pace * (frames - 1),
        height=height,
        width=width,
        device=device,
        photos_NCHW=photos_NCHW,
        mixture=worlds.Mixture() if pace == 1 else _QUICK,
    )
    chosen = [index for index, prompt in enumerate(prompts) if surfaces(prompt)]
    clips_BCTHW = clips_BCTHW[chosen, :, ::pace]
    generator = torch.Generator(device).manual_seed(derive(seed, "faults"))
    others_BCTHW = clips_BCTHW.roll(1, 0)
    passing = motion_faults.add_motion_fault(
        clips_BCTHW, clips_BCTHW.roll(2, 0), generator=generator
    )
    chance_B = torch.rand(len(chosen), 1, 1, 1, 1, generator=generator, device=clips_BCTHW.device)
    clips_BCTHW = torch.where(chance_B < 0.3, passing.clean_BCTHW, clips_BCTHW)
    clips_BCTHW = degradations.change_light(clips_BCTHW, generator=generator)
    weights = torch.tensor([good, *[(1 - good) / (LEVELS - 1)] * (LEVELS - 1)])
    levels_B = torch.multinomial(
        weights.to(clips_BCTHW.device), len(chosen), True, generator=generator
    )
    faulty = cuts.add_cuts(clips_BCTHW, others_BCTHW, generator=generator, levels_B=levels_B)
    seen_BCTHW = degradations.reduce_contrast(faulty.clips_BCTHW, generator=generator)
    return LabelledClips(
        clips_BCTHW=degradations.degrade(seen_BCTHW, generator=generator, codec=codec),
        levels_B=faulty.levels_B,
        severities_B=faulty.severities_B,
        where_BT=faulty.where_BT,
        kinds=faulty.kinds,
    )


def loss(model: CutDiscriminator, labelled: LabelledClips) -> Tensor:
    """Ordinal cross-entropy, (B,).

    The worst frame at the cut is compared with the cut's level; the worst and the mean of all other
    frames with level 0.
    """
    log_BT = model(labelled.clips_BCTHW)[:, 1:]
    near_BT = F.max_pool1d(labelled.where_BT[:, 1:].float(), 2 * _SMEAR + 1, 1, _SMEAR) > 0
    steps_K = torch.arange(LEVELS - 1, device=log_BT.device)
    wanted_BK = (labelled.levels_B[:, None] > steps_K).float()
    at_B = log_BT.masked_fill(~near_BT, -math.inf).amax(1).where(near_BT.any(1), 0)
    found_B = _entropy(model.logits(at_B), wanted_BK) * near_BT.any(1)
    away_BT = log_BT.masked_fill(near_BT, -math.inf)
    worst_B = away_BT.amax(1).where(~near_BT.all(1), 0)
    false_B = _entropy(model.logits(worst_B), torch.zeros_like(wanted_BK)) * ~near_BT.all(1)
    each_BT = _entropy(model.logits(log_BT), wanted_BK.new_zeros(())) * ~near_BT
    return found_B + false_B + each_BT.sum(1) / (~near_BT).sum(1).clamp_min(1)


def _entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    wanted = wanted.expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(-1)


def train(
    recipe: CutRecipe, *, codec: LinearCodec | None, minutes: float = math.inf
) -> CutDiscriminator:
    """Train one from scratch. If `minutes` end the run, the learning rate falls earlier too."""
    torch.manual_seed(derive(recipe.seed, "model"))
    model = CutDiscriminator().to(recipe.device)
    if codec is not None:
        codec = codec.to(recipe.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.02)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    start = reported_at = time.monotonic()
    recent: list[float] = []
    step, clips, done = 0, 0, 0.0
    while done < 1:
        rng = random.Random(derive(recipe.seed, "step", step))
        height, width = rng.choice(recipe.sizes)
        labelled = draw(
            derive(recipe.seed, "train", step),
            recipe.batch,
            frames=rng.choice(recipe.frames),
            height=height,
            width=width,
            codec=codec,
            device=recipe.device,
            surfaces=lambda prompt: HELD_OUT_SURFACE not in prompt,
        )
        warm = min(1.0, (step + 1) / 50)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * done))
        mean = loss(model, labelled).mean()
        optimiser.zero_grad()
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step, clips = step + 1, clips + len(labelled)
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - min(0.99, step / (step + 10)))
        recent.append(float(mean.detach()))
        now = time.monotonic()
        done = max(step / recipe.steps, (now - start) / 60 / minutes)
        if now - reported_at > 20:
            reported_at = now
            shown = sum(recent[-50:]) / len(recent[-50:])
            print(f"step {step}  {clips} clips  loss {shown:.4f}  {done:.0%}", file=sys.stderr)
    model.load_state_dict(average)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES), nargs="?", default="scorer_cuts_cpu")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--codec", type=Path, default=bundled.weights("nano") / "vae")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    recipe = RECIPES[asked.recipe]()
    model = train(recipe, codec=LinearCodec.from_pretrained(asked.codec), minutes=asked.minutes)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, asked.out, metadata={"recipe": json.dumps(asdict(recipe))})


if __name__ == "__main__":
    main()
