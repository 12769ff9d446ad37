"""Preference training: making pairs, and training on them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreamontage.training.datasets import pair_store
from dreamontage.training.datasets.pair_making import Pairs, judge_motion, make_pairs
from dreamontage.training.datasets.pairs import read_pairs, write_pairs
from dreamontage.training.loop.recipe import Recipe
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.objectives import nano
from dreamontage.training.objectives.adaptive import Shape, Study, WindowsObjective
from dreamontage.training.objectives.preference import PreferenceObjective, Preferences, flow_dpo
from dreamontage.training.synthetic import motion_faults, worlds


def test_the_loss_is_ln_2_at_first_and_knows_its_direction() -> None:
    same = torch.tensor([0.3, 0.1])
    loss, margin = flow_dpo(same, same, same, same, beta=100)
    assert loss.tolist() == pytest.approx([math.log(2)] * 2)
    assert margin.tolist() == [0, 0]
    better, _ = flow_dpo(same - 0.01, same, same, same, beta=100)
    worse, _ = flow_dpo(same, same - 0.01, same, same, beta=100)
    assert (better < math.log(2)).all()
    assert (worse > math.log(2)).all()


def test_the_motion_judge_prefers_the_subject_that_moves_as_it_should() -> None:
    clips, _, _ = worlds.clips(1, 12, frames=25, height=48, width=48)
    others, _, _ = worlds.clips(2, 12, frames=25, height=48, width=48)
    made = motion_faults.add_motion_fault(clips, others, generator=torch.Generator().manual_seed(0))
    assert torch.equal(judge_motion(made.clean_BCTHW, made.clean_BCTHW), torch.zeros(12))
    wrong = judge_motion(made.clips_BCTHW, made.clean_BCTHW)
    assert (wrong > 0.02).float().mean() > 0.7
    frozen = made.clean_BCTHW[:, :, :1].expand_as(made.clean_BCTHW)
    assert judge_motion(frozen, made.clean_BCTHW).tolist() == pytest.approx([1.0] * 12)


def test_pairs_are_the_best_and_the_worst_where_they_differ() -> None:
    """A judge that reads the first number of a film, and a model that makes its noise."""

    def made(least_gap: float) -> Pairs:
        batch = torch.zeros(6, 2, 3, 4, 4), torch.ones(6, 1, 3, 4, 4), torch.ones(6, 2, 2)
        return make_pairs(
            iter([batch] * 10),
            sample=lambda condition, prompts, noise: noise,
            judge=lambda made, true: made[:, 0, 0, 0, 0],
            decode=lambda latents: latents,
            count=20,
            group=4,
            least_gap=least_gap,
            generator=torch.Generator().manual_seed(0),
        )

    pairs = made(1.5)
    assert len(pairs) == 20
    gaps = (pairs.loser_PZLHW - pairs.winner_PZLHW)[:, 0, 0, 0, 0]
    assert (gaps >= 1.49).all()
    with pytest.raises(ValueError, match=r"pairs: .* 100 apart by the judge"):
        made(100)


def test_the_policy_learns_to_prefer_and_the_reference_stays(tmp_path: Path) -> None:
    study = Study(
        shapes=(Shape(weight=1, latents=3, height=32, width=32, batch=4),),
        size=nano.Size(heads=1, layers=1, ffn=64, z_dim=8),
        codec_batches=1,
        held_out=2,
        sampling=False,
    )
    before = Trainer(
        Recipe(name="base", build=partial(WindowsObjective, study=study)),
        tmp_path / "base",
        steps=2,
    )
    before.run()
    preferences = Preferences(
        shape=study.shapes[0], pairs=8, steps=2, batch=8, held_out=4, gap_cuts=0, gap_motion=0
    )
    recipe = Recipe(
        name="preference",
        build=partial(PreferenceObjective, study=study, preferences=preferences),
        learning_rate=1e-3,
        warmup=1,
        muon=False,
        weight_decay=0,
        ema=0,
    )
    run = Trainer(recipe, tmp_path / "dpo", init=before.export(), steps=30)
    assert run.untrained["loss"] == pytest.approx(math.log(2), abs=1e-4)
    objective: Any = run.objective
    held = {name: value.clone() for name, value in objective.reference.state_dict().items()}
    losses = [float(run.train_step()) for _ in range(30)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert sum(losses[-5:]) / 5 < 0.6
    for name, value in objective.reference.state_dict().items():
        assert torch.equal(value, held[name]), name
    # Pairs that people have judged: stored, a line turned round, and learnt from instead.
    every = Pairs.of(load_file(tmp_path / "dpo" / "frozen" / "pairs.safetensors"))
    path = pair_store.write(
        tmp_path / "judged", every, prompts=[""] * len(every), judge="cuts", source="A"
    )
    first, *rest = read_pairs(path)
    turned = first.model_copy(update={"winner": first.loser, "loser": first.winner, "judge": "Ann"})
    write_pairs(path, [turned, *rest])
    stored_pairs = replace(preferences, stored_pairs=path)
    build = partial(PreferenceObjective, study=study, preferences=stored_pairs)
    again = Trainer(replace(recipe, build=build), tmp_path / "people", init=before.export())
    learnt = Pairs.of(load_file(tmp_path / "people" / "frozen" / "pairs.safetensors"))
    assert torch.equal(learnt.winner_PZLHW[0], every.loser_PZLHW[0])
    assert torch.equal(learnt.winner_PZLHW[1:], every.winner_PZLHW[1:])
    assert torch.equal(learnt.condition_PCLHW, every.condition_PCLHW)
    assert math.isfinite(float(again.train_step()))
