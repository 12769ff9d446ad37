"""What every ledger promises, held for each kind of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreamontage.rendering.folder_ledger import FolderLedger
from dreamontage.rendering.ledger import LostLatents
from tests.support.ledgers import OpenLedger

ONE, TWO = "a" * 64, "b" * 64
LATENTS = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 2, 2)


@pytest.fixture
def prepared_ledger(opened_ledger: OpenLedger) -> OpenLedger:
    opened_ledger.prepare([ONE, TWO])
    return opened_ledger


def finish(opened: OpenLedger, key: str, latents: Tensor = LATENTS) -> None:
    with opened.ledger.claim(key, steps=6) as claim:
        assert claim is not None
        claim.finish(latents, steps_run=6)


def test_finished_latents_are_found_by_their_key(prepared_ledger: OpenLedger) -> None:
    assert not prepared_ledger.ledger.is_finished(ONE)
    with pytest.raises(LostLatents):
        prepared_ledger.ledger.latents(ONE)
    finish(prepared_ledger, ONE, LATENTS.double().transpose(3, 4))
    again = prepared_ledger.another()
    assert again.is_finished(ONE)
    assert not again.is_finished(TWO)
    found = again.latents(ONE)
    assert found.dtype is torch.float32
    assert torch.equal(found, LATENTS.transpose(3, 4))


def test_a_finished_segment_is_not_claimed(prepared_ledger: OpenLedger) -> None:
    finish(prepared_ledger, ONE)
    with prepared_ledger.another().claim(ONE, steps=6) as claim:
        assert claim is None


def test_lost_latents_open_their_segment_and_no_other(prepared_ledger: OpenLedger) -> None:
    finish(prepared_ledger, ONE)
    finish(prepared_ledger, TWO)
    prepared_ledger.lose(ONE)
    with pytest.raises(LostLatents, match=ONE):
        prepared_ledger.ledger.latents(ONE)
    assert prepared_ledger.ledger.is_finished(TWO)
    finish(prepared_ledger, ONE)
    assert torch.equal(prepared_ledger.ledger.latents(ONE), LATENTS)


def test_torn_latents_are_lost_latents(prepared_ledger: OpenLedger) -> None:
    if prepared_ledger.tear is None:
        pytest.skip("a memory has no bits to tear")
    finish(prepared_ledger, ONE)
    prepared_ledger.tear(ONE)
    with pytest.raises(LostLatents):
        prepared_ledger.ledger.latents(ONE)
    finish(prepared_ledger, ONE)
    assert torch.equal(prepared_ledger.ledger.latents(ONE), LATENTS)


def test_a_folder_that_cannot_be_read_is_not_a_folder_without_latents(tmp_path: Path) -> None:
    ledger = FolderLedger(tmp_path)
    unreadable = tmp_path / f"{ONE}.safetensors"
    unreadable.mkdir()
    with pytest.raises(OSError, match="No such device"):
        ledger.latents(ONE)
    assert unreadable.exists()


def test_the_newest_checkpoint_is_what_the_next_holder_finds(prepared_ledger: OpenLedger) -> None:
    def interrupted() -> None:
        with prepared_ledger.ledger.claim(ONE, steps=6) as claim:
            assert claim is not None
            assert claim.checkpoint is None
            claim.save_checkpoint(b"two steps", step=2, steps_run=2)
            claim.save_checkpoint(b"four steps", step=4, steps_run=2)
            assert claim.checkpoint == b"four steps"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with prepared_ledger.another().claim(ONE, steps=6) as claim:
        assert claim is not None
        assert claim.checkpoint == b"four steps"
        claim.finish(LATENTS, steps_run=2)
    prepared_ledger.lose(ONE)
    with pytest.raises(LostLatents):
        prepared_ledger.ledger.latents(ONE)
    with prepared_ledger.ledger.claim(ONE, steps=6) as claim:
        assert claim is not None
        assert claim.checkpoint is None, "a checkpoint goes when its segment is finished"


def test_an_error_gives_the_segment_back_with_its_checkpoint(prepared_ledger: OpenLedger) -> None:
    def failing() -> None:
        with prepared_ledger.ledger.claim(ONE, steps=6) as claim:
            assert claim is not None
            claim.save_checkpoint(b"state", step=2, steps_run=2)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        failing()
    with prepared_ledger.ledger.claim(ONE, steps=6) as claim:
        assert claim is not None
        assert claim.checkpoint == b"state"


def test_one_holder_at_a_time(prepared_ledger: OpenLedger) -> None:
    """The second one waits, hears the holder's name, and finds the segment finished."""
    waited_for: list[str] = []
    found: list[object] = []
    held, waiting = threading.Event(), threading.Event()

    def second() -> None:
        held.wait(10)

        def wait_for(holder: str) -> None:
            waited_for.append(holder)
            waiting.set()

        with prepared_ledger.another().claim(ONE, steps=6, waiting=wait_for) as claim:
            found.append(claim)

    thread = threading.Thread(target=second)
    thread.start()
    with prepared_ledger.ledger.claim(ONE, steps=6) as claim:
        assert claim is not None
        held.set()
        assert waiting.wait(10)
        assert found == []
        claim.finish(LATENTS, steps_run=6)
    thread.join(20)
    assert found == [None]
    assert len(waited_for) == 1


def test_an_embedding_is_found_by_its_key(prepared_ledger: OpenLedger) -> None:
    embedding = torch.randn(1, 4, 8, dtype=torch.bfloat16)
    assert prepared_ledger.ledger.embedding("key") is None
    prepared_ledger.ledger.put_embedding("key", embedding)
    found = prepared_ledger.another().embedding("key")
    assert found is not None
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, embedding)


def test_an_enlarged_window_is_there_until_its_segment_is_finished(
    prepared_ledger: OpenLedger,
) -> None:
    ledger = prepared_ledger.ledger
    assert not ledger.has_draft(ONE)
    assert ledger.draft(ONE) is None
    ledger.put_draft(ONE, LATENTS)
    assert prepared_ledger.another().has_draft(ONE)
    found = prepared_ledger.another().draft(ONE)
    assert found is not None
    assert torch.equal(found, LATENTS)
    finish(prepared_ledger, ONE)
    assert not ledger.has_draft(ONE)
    assert ledger.draft(ONE) is None
