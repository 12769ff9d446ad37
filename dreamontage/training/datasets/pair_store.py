"""Pairs for DPO on disk: a file of pairs, and the latents that it names.

    pairs.jsonl              a line for each pair, in the format of `pairs.py`
    0000/winner.safetensors  latents_ZLHW
    0000/loser.safetensors   latents_ZLHW
    0000/given.safetensors   condition_CLHW and prompts_SD of both films

A person who judges may rewrite the file: exchange the films of a line, or delete lines. DPO then
trains on the new file.

Shapes: P pairs, Z latent channels, C condition channels, L latent frames, H W height and width,
S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from dreamontage.training.datasets.pair_making import Pairs
from dreamontage.training.datasets.pairs import Pair, read_pairs, write_pairs

NAME = "pairs.jsonl"


def write(
    folder: Path,
    made: Pairs,
    *,
    prompts: Sequence[str],
    judge: str,
    source: Literal["A", "B"],
    margins: Sequence[float] | None = None,
) -> Path:
    """Store pairs with their prompts in a new or empty folder; returns the file of pairs.

    The file is written last. A folder without it holds no pairs.
    """
    assert len(prompts) == len(made), "every pair has a prompt"
    lines = []
    for index, prompt in enumerate(prompts):
        place = folder / f"{index:04d}"
        place.mkdir(parents=True, exist_ok=True)
        parts = {
            "winner": {"latents": made.winner_PZLHW},
            "loser": {"latents": made.loser_PZLHW},
            "given": {"condition": made.condition_PCLHW, "prompts": made.prompts_PSD},
        }
        for name, tensors in parts.items():
            one = {key: values[index].cpu().contiguous() for key, values in tensors.items()}
            save_file(one, place / f"{name}.safetensors")
        lines.append(
            Pair(
                prompt=prompt,
                winner=f"{place.name}/winner.safetensors",
                loser=f"{place.name}/loser.safetensors",
                conditions=f"{place.name}/given.safetensors",
                judge=judge,
                source=source,
                margin=None if margins is None else margins[index],
            )
        )
    write_pairs(folder / NAME, lines)
    return folder / NAME


def read(path: Path) -> Pairs:
    """The pairs of a file.

    Raises ValueError with all errors in the file, for pairs without stored conditions, and for
    pairs of different shapes.
    """
    pairs = read_pairs(path)
    unconditioned = [pair.winner for pair in pairs if pair.conditions is None]
    if unconditioned:
        raise ValueError(
            f"{path}: no conditions are given for {', '.join(unconditioned[:5])}: DPO needs them"
        )
    rows = []
    for pair in pairs:
        given = load_file(path.parent / str(pair.conditions))
        films = (load_file(path.parent / name)["latents"] for name in (pair.winner, pair.loser))
        rows.append((*films, given["condition"], given["prompts"]))
    shapes = {tuple(tuple(part.shape) for part in row) for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"{path}: its pairs have {len(shapes)} different shapes, and must have one"
        )
    winner, loser, condition, prompts = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Pairs(
        winner_PZLHW=winner, loser_PZLHW=loser, condition_PCLHW=condition, prompts_PSD=prompts
    )
