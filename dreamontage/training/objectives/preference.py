"""Tailored DPO: the policy learns which of two films, made with two seeds, is the better one.

The surrogate for a flow model's likelihood is Flow-DPO's: squared velocity errors of policy and
reference on winner and loser, at the same time and with the same noise. Beta does not change with
time: one weighted by time leads to reward hacking. The paper names no surrogate.

Shapes: B pairs, P pairs in store, Z latent channels, L latent frames, H W height and width.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.files import write_file
from dreamontage.scorer import discriminator
from dreamontage.storyboard.seeds import derive
from dreamontage.training.datasets import pair_store
from dreamontage.training.datasets.pair_making import Judge, Pairs, judge_motion, make_pairs
from dreamontage.training.datasets.windows import ConditionMix
from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching, nano
from dreamontage.training.objectives.adaptive import (
    Shape,
    Study,
    WindowsObjective,
    WindowSource,
    decode,
)
from dreamontage.training.synthetic.worlds import Mixture

# Keyframes of different content cause cuts in a film. Acting subjects are what gets deformed.
_TORN = ConditionMix(start={"first_last": 50, "several": 50}, middle={"several": 100})
_TRANSITIONS = Mixture(expressions=(0.15, 0.15, 0.1, 0.2, 0.4))
_ACTING = ConditionMix(start={"none": 20, "first": 60, "last": 20}, middle={"none": 100})
_SPORT = Mixture(expressions=(0.0, 0.0, 1.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """How pairs are made and trained on.

    `beta` scales squared errors, averaged over a window's values. `hold`: see `flow_dpo`. `pairs`:
    how many to make of each kind. `held_out`: how many of all pairs are for the scores only. With
    `stored_pairs`, the pairs are read from that file (see `pair_store`), and none are made.
    """

    shape: Shape
    beta: float = 500.0
    hold: float = 0.0
    pairs: int = 600
    group: int = 4
    steps: int = 8
    batch: int = 24
    held_out: int = 64
    gap_cuts: float = 0.3  # levels of the discriminator
    gap_motion: float = 0.05  # of the true film's changes
    stored_pairs: Path | None = None


def flow_dpo(
    policy_winner_B: Tensor,
    policy_loser_B: Tensor,
    reference_winner_B: Tensor,
    reference_loser_B: Tensor,
    *,
    beta: float,
    hold: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Loss and margin of each pair, (B,), from squared velocity errors at one time and noise.

    The margin is how much more the policy prefers the winner than its reference does. At first it
    is 0, and the loss is ln 2 (Liu et al., "Improving Video Generation with Human Feedback", 2025).

    The margin also grows when both films become worse, the loser more. So `hold` times the winner's
    loss is subtracted from it (Pal et al., "Smaug", 2024, for language models).
    """
    gain_winner_B = reference_winner_B - policy_winner_B
    gain_loser_B = reference_loser_B - policy_loser_B
    margin_B = beta * (gain_winner_B - gain_loser_B)
    lost_B = (-gain_winner_B).clamp_min(0)
    return -F.logsigmoid(margin_B - beta * hold * lost_B), margin_B


def pair_errors(
    model: Any, pairs: Pairs, *, times_B: Tensor, noise_BZLHW: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared velocity errors of winners and losers, (B,) each, at a time and noise per pair."""
    both_B = flow_matching.velocity_errors(
        model,
        torch.cat((pairs.winner_PZLHW, pairs.loser_PZLHW)).float(),
        pairs.condition_PCLHW.float().repeat(2, 1, 1, 1, 1),
        pairs.prompts_PSD.float().repeat(2, 1, 1),
        times_B=times_B.repeat(2),
        noise_BZLHW=noise_BZLHW.repeat(2, 1, 1, 1, 1),
    )
    winner_B, loser_B = both_B.chunk(2)
    return winner_B, loser_B


class PreferenceObjective:
    """See the module. The reference is the model that the run starts from."""

    def __init__(self, setting: Setting, study: Study, preferences: Preferences) -> None:
        if setting.init is None:
            raise ValueError("init is missing: preferences need weights that already make films")
        self.setting, self.preferences = setting, preferences
        self.windows = WindowsObjective(setting, study)
        self.model = self.windows.model
        self.reference = setting.prepare(nano.load_transformer(setting.init)).eval()
        self.reference.requires_grad_(False)
        store = setting.folder / "frozen" / "pairs.safetensors"
        if not store.exists():
            write_file(store, lambda path: save_file(self._make().tensors(), path))
        every = Pairs.of({name: t.to(setting.device) for name, t in load_file(store).items()})
        # Both kinds are in both parts: every n-th pair is held out.
        apart = torch.arange(len(every)) % max(2, len(every) // preferences.held_out) == 0
        self.held_out, self.pairs = _taken(every, apart), _taken(every, ~apart)

    def _make(self) -> Pairs:
        """Pairs of both kinds, half and half, made by the reference; or the stored ones."""
        setting, wanted = self.setting, self.preferences
        if wanted.stored_pairs is not None:
            return pair_store.read(wanted.stored_pairs)
        cuts = discriminator.load().to(setting.device)

        def judge_cuts(made_BCTHW: Tensor, true_BCTHW: Tensor) -> Tensor:
            return cuts.rate(made_BCTHW).severity_B

        makers: list[tuple[str, ConditionMix, Mixture, Judge, float]] = [
            ("cuts", _TORN, _TRANSITIONS, judge_cuts, wanted.gap_cuts),
            ("motion", _ACTING, _SPORT, judge_motion, wanted.gap_motion),
        ]
        made = []
        for name, condition_mix, mixture, judge, gap in makers:
            study = replace(self.windows.study, condition_mix=condition_mix, mixture=mixture)
            source = WindowSource(setting.folder / "frozen", setting.device, study)
            pairs = make_pairs(
                self._batches(source, name),
                sample=self._sample,
                judge=judge,
                decode=lambda latents: decode(self.windows.frozen.vae, latents, middle=False),
                count=wanted.pairs,
                group=wanted.group,
                least_gap=gap,
                generator=torch.Generator(setting.device).manual_seed(
                    derive(setting.seed, "pairs", name)
                ),
                progress=partial(_print_progress, name, wanted.pairs),
            )
            made.append(pairs.tensors())
        return Pairs.of({name: torch.cat([m[name] for m in made]).cpu() for name in made[0]})

    def _sample(self, condition_BCLHW: Tensor, prompts_BSD: Tensor, noise_BZLHW: Tensor) -> Tensor:
        with self.setting.autocast():
            return flow_matching.sample(
                self.reference,
                condition_BCLHW,
                prompts_BSD,
                noise_BZLHW=noise_BZLHW,
                steps=self.preferences.steps,
                shift=nano.FLOW_SHIFT,
            )

    def _batches(self, source: WindowSource, name: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Start windows to sample: twice as many as needed, because some groups are all similar."""
        shape = self.preferences.shape
        for index in range(-(-2 * self.preferences.pairs // shape.batch)):
            seed = derive(self.setting.seed, "pairs", name, index)
            batch = source.windows(shape, seed=seed, middle=False)
            yield batch.latents_BZLHW, batch.condition_BCLHW, source.embed(batch)

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        """The numbers of the next pairs; the pairs themselves are on the device."""
        rng = random.Random(seed)
        count = self.preferences.batch * repeat
        return {"rows": torch.tensor(rng.choices(range(len(self.pairs)), k=count))}

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        pairs = _taken(self.pairs, batch["rows"])
        generator = torch.Generator(self.setting.device).manual_seed(derive(seed, "noise"))
        loss_B, _ = self._compare(model, pairs, generator)
        return loss_B.mean(), len(pairs)

    def _compare(
        self, model: Any, pairs: Pairs, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        times_B = flow_matching.draw_times(
            len(pairs), shift=nano.FLOW_SHIFT, uniform=0.2, generator=generator
        )
        shape = pairs.winner_PZLHW.shape
        noise_BZLHW = torch.randn(shape, generator=generator, device=generator.device)

        def errors(which: Any) -> tuple[Tensor, Tensor]:
            return pair_errors(which, pairs, times_B=times_B, noise_BZLHW=noise_BZLHW)

        with torch.no_grad(), self.setting.autocast():
            reference_winner_B, reference_loser_B = errors(self.reference)
        policy_winner_B, policy_loser_B = errors(model)
        return flow_dpo(
            policy_winner_B,
            policy_loser_B,
            reference_winner_B,
            reference_loser_B,
            beta=self.preferences.beta,
            hold=self.preferences.hold,
        )

    @property
    def source(self) -> PreferenceObjective:
        return self

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """Loss, accuracy and margin on held-out pairs, and the scores of the windows it renders."""
        generator = torch.Generator(self.setting.device).manual_seed(0)
        rounds = [self._compare(model, self.held_out, generator) for _ in range(4)]
        loss_B, margin_B = (torch.cat(parts) for parts in zip(*rounds, strict=True))
        found = {
            "loss": float(loss_B.mean()),
            "accuracy": float((margin_B > 0).float().mean()),
            "margin": float(margin_B.mean()),
        }
        rest = {name: v for name, v in self.windows.scores(model).items() if name != "loss"}
        return found | rest

    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        return self.windows.films(model)

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        self.windows.export(state, folder, facts)


def _print_progress(name: str, wanted: int, have: int) -> None:
    print(f"pairs for {name}: {min(have, wanted)} of {wanted}", file=sys.stderr, flush=True)


def _taken(pairs: Pairs, rows: Tensor) -> Pairs:
    """The pairs of the given rows."""
    return Pairs.of({name: t[rows.to(t.device)] for name, t in pairs.tensors().items()})
