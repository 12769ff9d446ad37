"""Batches: drawn at once or in advance, used again, and errors in a draw."""

from __future__ import annotations

import threading

import pytest
import torch

from dreamontage.training.loop.prefetch import Draws, batches


def test_what_is_drawn_serves_for_several_steps() -> None:
    class Counting:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            seeds.append(seed)
            return {"x": len(seeds) * 10 + torch.arange(repeat)}

    seeds: list[int] = []
    draws = Draws(Counting(), seed=0, rank=0, steps=10, block=2, uses=2)
    drawn = batches(draws, first=1, prefetch=0, device=torch.device("cpu"))
    assert [int(next(drawn)["x"]) for _ in range(5)] == [11, 10, 11, 20, 21]
    assert seeds == [draws.seed_of(0), draws.seed_of(4)]
    seeds.clear()
    draws = Draws(Counting(), seed=0, rank=0, steps=10, block=2, pool=2, uses=2)
    drawn = batches(draws, first=0, prefetch=0, device=torch.device("cpu"))
    assert [int(next(drawn)["x"]) for _ in range(9)] == [10, 11, 20, 21, 10, 11, 20, 21, 30]
    assert seeds == [draws.seed_of(step) for step in (0, 2, 8, 10)]


def test_an_error_in_a_prefetched_draw_is_raised_with_its_batch() -> None:
    class Broken:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            raise ZeroDivisionError("a draw failed")

    draws = Draws(Broken(), seed=0, rank=0, steps=10, block=2)
    drawn = batches(draws, first=0, prefetch=2, device=torch.device("cpu"))
    with pytest.raises(ZeroDivisionError, match="a draw failed"):
        next(drawn)


def test_batches_that_nobody_asks_for_leave_no_thread_behind() -> None:
    class Endless:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            return {"x": torch.zeros(repeat)}

    draws = Draws(Endless(), seed=0, rank=0, steps=10, block=2)
    before = threading.active_count()
    drawn = batches(draws, first=0, prefetch=2, device=torch.device("cpu"))
    drawn.close()
    assert threading.active_count() == before
    drawn = batches(draws, first=1, prefetch=2, device=torch.device("cpu"))
    next(drawn)
    assert threading.active_count() == before + 1
    drawn.close()
    assert threading.active_count() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams are a GPU's")
def test_a_batch_may_lie_in_main_memory() -> None:
    """So are stored clips and rows of pairs, which are drawn in advance, too."""

    class Mixed:
        def draw(self, seed: int, progress: float, repeat: int) -> dict[str, torch.Tensor]:
            return {"there": torch.zeros(repeat, device="cuda"), "here": torch.ones(repeat)}

    draws = Draws(Mixed(), seed=0, rank=0, steps=10, block=2)
    drawn = batches(draws, first=0, prefetch=2, device=torch.device("cuda"))
    assert [batch["here"].item() for batch in (next(drawn), next(drawn))] == [1, 1]
    drawn.close()
