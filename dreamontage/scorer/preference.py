"""Which of two films is the better one? Two judges that were trained on pairs.

A policy tuned by DPO is a judge itself. Its *implicit reward* for a film is how much better than
its reference it predicts the film's velocity (Flow-DPO; Liu et al., arXiv 2501.13918):

    reward = -beta * (|v_policy - v|^2 - |v_reference - v|^2),   v = noise - latents

each squared error a mean over the latents' values, and beta the same at every time t. Here it is
averaged over fixed times with fixed noise, so two films' rewards differ by the films alone. DPO
minimises -log sigmoid(reward of the winner - reward of the loser).

A `PreferenceHead` is a Bradley-Terry model on the gate's scores: a film's reward is a weighted
sum of what they say, and the chance that one film is preferred to another is the sigmoid of the
difference of their rewards.

Shapes: B films, Z latent channels, L latent frames, H W latent height and width, N features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from dreamontage.files import write_text
from dreamontage.models import bundled
from dreamontage.scorer.film import Better, Score

WEIGHTS = bundled.weights("scorer") / "preference.json"

Velocity = Callable[[Tensor, Tensor], Tensor]
"""noisy latents_BZLHW and times_B in (0, 1) -> velocity_BZLHW; conditions and prompts are in it."""

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)

FEATURES = ("cut_severity", "cut_strength", "flicker", "motion_jolt")
"""The scores that a head looks at, unless it is fitted to others."""


@torch.no_grad()
def implicit_reward(
    policy: Velocity,
    reference: Velocity,
    latents_BZLHW: Tensor,
    *,
    beta: float,
    times: Sequence[float] = TIMES,
    seed: int = 0,
) -> Tensor:
    """The policy's implicit reward for each film's normalised latents, (B,); 0 where policy and
    reference agree. With a LoRA, the reference is the same model under `disable_adapter()`.

    Raises ValueError for times outside (0, 1).
    """
    if not times or not all(0 < time < 1 for time in times):
        raise ValueError(f"times = {tuple(times)} must lie between 0 and 1, and be one at least")
    generator = torch.Generator(latents_BZLHW.device).manual_seed(seed)
    gains = []
    for time in times:
        noise_1ZLHW = torch.randn(
            latents_BZLHW[:1].shape, generator=generator, device=latents_BZLHW.device
        )
        noisy_BZLHW = torch.lerp(latents_BZLHW, noise_1ZLHW, time)
        times_B = torch.full((len(latents_BZLHW),), time, device=latents_BZLHW.device)
        wanted_BZLHW = noise_1ZLHW - latents_BZLHW
        policy_B, reference_B = (
            (model(noisy_BZLHW, times_B).float() - wanted_BZLHW).square().flatten(1).mean(1)
            for model in (policy, reference)
        )
        gains.append(reference_B - policy_B)
    return beta * torch.stack(gains).mean(0)


@dataclass(frozen=True, kw_only=True)
class PreferenceHead:
    """weights: the reward of one unit of each feature, negative for what people dislike."""

    weights: dict[str, float]

    def reward(self, scores: Sequence[Score]) -> float:
        """Higher is better. Raises ValueError where a score that it needs was not measured."""
        values = features(scores, tuple(self.weights))
        return sum(w * v for w, v in zip(self.weights.values(), values, strict=True))

    def preferred(self, one: Sequence[Score], other: Sequence[Score]) -> float:
        """The chance that the first film is preferred to the second."""
        return 1 / (1 + math.exp(self.reward(other) - self.reward(one)))

    def score(self, scores: Sequence[Score]) -> Score:
        """The reward as a score beside the others; it informs, until someone sets it a limit."""
        return Score(
            name="preference",
            value=self.reward(scores),
            unit="log odds against a film without any fault",
            better=Better.HIGHER,
        )

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Self:
        """Raises ValueError where there are no weights."""
        if not path.is_file():
            raise ValueError(
                f"{path} is not there: `python -m dreamontage.training.scorers.bradley_terry`"
            )
        return cls(**json.loads(path.read_text()))


def features(scores: Sequence[Score], names: Sequence[str] = FEATURES) -> list[float]:
    """A film's features: log(1 + score), or log(score) where the best score is 1 already."""
    values = {score.name: score.value for score in scores}
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"scores: {', '.join(missing)} was not measured")
    return [math.log(values[name] + (name != "motion_jolt")) for name in names]
