"""The discriminator beside PySceneDetect on held-out clips, as in `python -m bench scorer`."""

from __future__ import annotations

import numpy as np
import pytest

from dreamontage.training.scorers import comparison


@pytest.fixture(scope="module")
def rows() -> dict[str, comparison.Row]:
    found = comparison.rows(comparison.held_out("seeds", 48), comparison.networks())
    return {row.name.split(",")[0]: row for row in reversed(found) if "own" not in row.name}


def test_it_beats_both_detectors_at_their_best_thresholds(rows: dict[str, comparison.Row]) -> None:
    ours = rows[comparison.OURS]
    assert ours.auc > 0.85
    for rival in ("ContentDetector", "AdaptiveDetector", "cut_strength", "greatest step (control)"):
        assert ours.auc > rows[rival].auc + 0.05, rival
        assert ours.found > rows[rival].found, rival
        assert ours.levels > rows[rival].levels, rival
        assert ours.spearman > rows[rival].spearman + 0.05, rival


def test_what_is_not_trained_knows_nothing(rows: dict[str, comparison.Row]) -> None:
    assert 0.25 < rows["untrained (control)"].auc < 0.75


def test_the_figures_are_what_they_are_called() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    assert comparison.auc(scores, np.array([False, False, True, True])) == 0.75
    assert comparison.auc(np.zeros(4), np.array([False, False, True, True])) == 0.5
    levels = np.array([0, 1, 1, 2, 0])
    assert comparison.best_accuracy(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), levels, 3) == 0.8
    assert comparison.best_accuracy(np.zeros(5), levels, 3) == 0.4
    many, positive = np.tile(scores, 50), np.tile([False, False, True, True], 50)
    low, high = comparison.auc_interval(many, positive)
    assert 0.65 < low < 0.75 < high < 0.85
