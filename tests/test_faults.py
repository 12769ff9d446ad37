"""Synthetic cuts and motion faults have the given severity, at their stated frames only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreamontage.training.synthetic import cuts, degradations, motion_faults, worlds
from dreamontage.training.synthetic.cuts import CutKind
from dreamontage.training.synthetic.motion_faults import MotionFault


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def unbroken_clips() -> Tensor:
    return worlds.clips(1, 16, frames=33, height=32, width=48)[0]


def steps(clips_BCTHW: Tensor) -> Tensor:
    """Change into each frame, (B, T)."""
    small = cuts.thumbnails(clips_BCTHW)
    change = small.diff(dim=2).square().mean((1, 3, 4)).sqrt()
    return torch.nn.functional.pad(change, (1, 0))


def test_levels_asked_for_are_levels_made(unbroken_clips: Tensor) -> None:
    for level in range(1, cuts.LEVELS):
        made = cuts.add_cuts(
            unbroken_clips,
            unbroken_clips.roll(1, 0),
            generator=generator(level),
            levels_B=torch.full((16,), level),
        )
        assert made.clips_BCTHW.shape == unbroken_clips.shape
        assert (made.levels_B == level).float().mean() > 0.6
        assert (made.levels_B - level).abs().max() <= 1
        assert torch.equal(made.levels_B, cuts.level_of(made.severities_B))
        assert len(set(made.kinds)) >= 3


def test_level_0_is_the_clip_itself(unbroken_clips: Tensor) -> None:
    made = cuts.add_cuts(
        unbroken_clips,
        unbroken_clips.roll(1, 0),
        generator=generator(),
        levels_B=torch.zeros(16, dtype=torch.long),
    )
    assert torch.equal(made.clips_BCTHW, unbroken_clips)
    assert set(made.kinds) == {CutKind.NONE}
    assert not made.where_BT.any()
    assert not made.severities_B.any()


def test_the_same_generator_gives_the_same_synthetic_cuts(unbroken_clips: Tensor) -> None:
    first, again = (
        cuts.add_cuts(unbroken_clips, unbroken_clips.roll(1, 0), generator=generator(5))
        for _ in range(2)
    )
    assert torch.equal(first.clips_BCTHW, again.clips_BCTHW)
    assert first.kinds == again.kinds
    other = cuts.add_cuts(unbroken_clips, unbroken_clips.roll(1, 0), generator=generator(6))
    assert not torch.equal(first.clips_BCTHW, other.clips_BCTHW)


@pytest.mark.parametrize("kind", cuts.KINDS)
def test_a_synthetic_cut_is_at_its_stated_frames(unbroken_clips: Tensor, kind: CutKind) -> None:
    made = cuts.add_cuts(
        unbroken_clips,
        unbroken_clips.roll(1, 0),
        generator=generator(2),
        levels_B=torch.full((16,), 3),
        kinds=[kind],
    )
    assert set(made.kinds) == {kind}
    assert made.where_BT.any(1).all()
    assert not made.where_BT[:, 0].any()
    before, after = steps(unbroken_clips), steps(made.clips_BCTHW)
    worst_B = (after - before).argmax(1)
    hit = made.where_BT.gather(1, worst_B[:, None])[:, 0]
    assert hit[made.levels_B > 1].float().mean() > 0.9
    if kind is CutKind.FREEZE:
        stood = (after[:, 1:] == 0) & ~made.where_BT[:, 1:]
        assert (stood.sum(1) >= 2).float().mean() > 0.8
    if kind is CutKind.FLASH:
        last = made.clips_BCTHW[:, :, -1]
        lit_B = made.where_BT[:, -1]
        assert torch.equal(last[~lit_B], unbroken_clips[:, :, -1][~lit_B])


def test_a_severity_is_relative_to_the_shots_pace_and_contrast(unbroken_clips: Tensor) -> None:
    usual = cuts.usual(cuts.thumbnails(unbroken_clips))
    fog = cuts.usual(cuts.thumbnails(unbroken_clips * 0.4))
    assert torch.allclose(usual, fog, rtol=1e-3, atol=1e-4)
    quick = cuts.usual(cuts.thumbnails(unbroken_clips[:, :, ::3]))
    assert (quick[:, 1] > usual[:, 1]).all()


def test_unequal_and_short_clips_are_refused(unbroken_clips: Tensor) -> None:
    with pytest.raises(ValueError, match="must be of the clips'"):
        cuts.add_cuts(unbroken_clips, unbroken_clips[:, :, :-1], generator=generator())
    for fault in (cuts.add_cuts, motion_faults.add_motion_fault):
        with pytest.raises(ValueError, match="9 are needed"):
            fault(unbroken_clips[:, :, :8], unbroken_clips[:, :, :8], generator=generator())


@pytest.mark.parametrize("kind", motion_faults.KINDS)
def test_a_motion_fault_changes_the_subjects_motion_and_nothing_else(
    unbroken_clips: Tensor, kind: MotionFault
) -> None:
    made = motion_faults.add_motion_fault(
        unbroken_clips,
        unbroken_clips.roll(1, 0),
        generator=generator(3),
        levels_B=torch.arange(16) % 5,
        kinds=[kind],
    )
    assert torch.equal(made.levels_B, torch.arange(16) % 5)
    assert torch.equal(
        torch.bucketize(made.severities_B, torch.tensor(motion_faults.BOUNDS), right=True),
        made.levels_B,
    )
    differs_BT = (made.clips_BCTHW != made.clean_BCTHW).flatten(3).any(3).any(1)
    good_B = made.levels_B == 0
    assert not differs_BT[good_B].any()
    assert not made.where_BT[good_B].any()
    first_B = made.where_BT.float().argmax(1)
    for b in (~good_B).nonzero()[:, 0].tolist():
        assert not differs_BT[b, : first_B[b]].any()
    assert differs_BT[~good_B].any(1).float().mean() > 0.8  # a slight one may be out of sight
    # The subject itself covers a part of the picture only.
    touched = (made.clean_BCTHW != unbroken_clips).any(1).float().mean((1, 2, 3))
    assert (touched < 0.3).all()
    assert (touched > 0).float().mean() > 0.9


def test_degradations_are_no_cuts(unbroken_clips: Tensor) -> None:
    lit = degradations.change_light(unbroken_clips, generator=generator(), share=1.0)
    assert not torch.equal(lit, unbroken_clips)
    # Light changes over five frames or more: no step is much above those around it.
    gain = (lit + 1).mean((1, 3, 4)) / (unbroken_clips + 1).mean((1, 3, 4))
    assert gain.diff(dim=1).abs().max() < 0.25
    fog = degradations.reduce_contrast(unbroken_clips, generator=generator())
    assert fog.std() < unbroken_clips.std()
    weak = degradations.degrade(unbroken_clips, generator=generator())
    assert weak.abs().max() <= 1
    assert 0 < (weak - unbroken_clips).abs().mean() < 0.1
