"""Pairs for preference training: the best and the worst of samples that differ in the seed only.

Kind A is judged by the discriminator, for abrupt cuts, as in the paper. Kind B is about the motion
of subjects, which people judge in the paper. In procedural worlds the true film is known, and the
best sample is the one whose subjects move most like it **[ours]**.

Shapes: B windows, G samples of each, Z latent channels, C input channels beside the noise, L latent
frames, T frames, P pairs, S tokens, D width, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Judge = Callable[[Tensor, Tensor], Tensor]
"""Made films and true films, each video_BCTHW in [-1, 1] -> how bad each made film is, (B,)."""

_CELL = 8  # pixels: finer details are not part of the motion
_LAG = 4  # frames: as many as of a latent


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Winners and losers, with the conditions and prompts of both."""

    winner_PZLHW: Tensor
    loser_PZLHW: Tensor
    condition_PCLHW: Tensor
    prompts_PSD: Tensor

    def __len__(self) -> int:
        return len(self.winner_PZLHW)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "winner": self.winner_PZLHW,
            "loser": self.loser_PZLHW,
            "condition": self.condition_PCLHW,
            "prompts": self.prompts_PSD,
        }

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Pairs:
        return cls(
            winner_PZLHW=tensors["winner"],
            loser_PZLHW=tensors["loser"],
            condition_PCLHW=tensors["condition"],
            prompts_PSD=tensors["prompts"],
        )


def judge_motion(made_BCTHW: Tensor, true_BCTHW: Tensor) -> Tensor:
    """The error of a film's changes in time, relative to the true film's changes, (B,)."""
    made_BCTHW, true_BCTHW = (
        F.avg_pool3d(film, (1, _CELL, _CELL)) for film in (made_BCTHW, true_BCTHW)
    )
    made, true = (film[:, :, _LAG:] - film[:, :, :-_LAG] for film in (made_BCTHW, true_BCTHW))
    due_B = true.abs().flatten(1).mean(1).clamp_min(1e-3)
    return (made - true).abs().flatten(1).mean(1) / due_B


def make_pairs(
    batches: Iterator[tuple[Tensor, Tensor, Tensor]],
    *,
    sample: Callable[[Tensor, Tensor, Tensor], Tensor],
    judge: Judge,
    decode: Callable[[Tensor], Tensor],
    count: int,
    group: int,
    least_gap: float,
    generator: torch.Generator,
    progress: Callable[[int], object] = lambda have: None,
) -> Pairs:
    """The best and the worst of each group, if the judge's values differ by `least_gap`.

    Args:
        batches: latents_BZLHW, condition_BCLHW and prompts_BSD; used until there are `count` pairs
            or no more batches.
        sample: condition_BCLHW, prompts_BSD and noise_BZLHW -> latents_BZLHW.
        decode: latents -> films in [-1, 1].
        progress: called after each batch with the number of pairs so far.

    Raises:
        ValueError: if no group's films differ by `least_gap`.
    """
    found: list[tuple[Tensor, ...]] = []
    have = 0
    for latents_BZLHW, condition_BCLHW, prompts_BSD in batches:
        batch = len(latents_BZLHW)
        noise_BZLHW = torch.randn(
            batch * group,
            *latents_BZLHW.shape[1:],
            generator=generator,
            device=latents_BZLHW.device,
        )
        made = sample(
            condition_BCLHW.repeat_interleave(group, 0),
            prompts_BSD.repeat_interleave(group, 0),
            noise_BZLHW,
        )
        truth = decode(latents_BZLHW).repeat_interleave(group, 0)
        errors_BG = judge(decode(made), truth).unflatten(0, (batch, group))
        best, worst = errors_BG.min(1), errors_BG.max(1)
        apart = (worst.values - best.values >= least_gap).nonzero()[:, 0]
        made_BGZLHW = made.unflatten(0, (batch, group))
        found.append(
            (
                made_BGZLHW[apart, best.indices[apart]].half(),
                made_BGZLHW[apart, worst.indices[apart]].half(),
                condition_BCLHW[apart].half(),
                prompts_BSD[apart].half(),
            )
        )
        have += len(apart)
        progress(have)
        if have >= count:
            break
    if not have:
        raise ValueError(
            f"pairs: of {len(found)} batches' groups of {group} samples, none has two that are "
            f"{least_gap} apart by the judge"
        )
    winner, loser, condition, prompts = (
        torch.cat(parts)[:count] for parts in zip(*found, strict=True)
    )
    return Pairs(
        winner_PZLHW=winner, loser_PZLHW=loser, condition_PCLHW=condition, prompts_PSD=prompts
    )
