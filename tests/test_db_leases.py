"""Leases on segments: one holder at a time, expiry, refused writes of earlier holders."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import psycopg
import pytest

from db import ids
from db.leases import Lease, LostLease, SegmentSlot
from db.repository import Repository
from db.states import SegmentState, Stage
from db.storyboards import NewShot, NewStoryboard

KEY = "a" * 64
LONG = timedelta(minutes=5)
NOTHING = timedelta(0)  # a lease that has run out when it is given


def slot(key: str = KEY, index: int = 0) -> SegmentSlot:
    return SegmentSlot(index=index, key=key, steps=12, start=0, stop=9, tail=0)


def plan(repository: Repository, *slots: SegmentSlot) -> None:
    """Have a take that is made of these segments."""
    shot = NewShot(name=None, frames=33, seed=1)
    board = NewStoryboard(id="sb-22222222", title="A walk", document={}, shots=[shot])
    repository.add_storyboards([board])
    take = repository.start_take(ids.shot_id(board.id, 0), 0, 1)
    repository.set_take_segments(take.id, slots)


@pytest.fixture
def leases(repository: Repository) -> Repository:
    """A repository with one waiting segment, KEY."""
    plan(repository, slot())
    return repository


def claim(leases: Repository, holder: str = "one", ttl: timedelta = LONG) -> Lease:
    lease = leases.claim_segment(KEY, holder, ttl)
    assert lease is not None
    return lease


def await_claim(leases: Repository, holder: str) -> Lease:
    """Claim as soon as whoever holds it has run out of time."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if lease := leases.claim_segment(KEY, holder, LONG):
            return lease
        time.sleep(0.05)
    raise AssertionError("the lease never ran out")


def test_a_claim_takes_the_segment_and_shows_who_holds_it(leases: Repository) -> None:
    lease = claim(leases)
    assert (lease.holder, lease.steps, lease.checkpoint_step) == ("one", 12, 0)
    segment = leases.segment(KEY)
    assert segment.state is SegmentState.RUNNING
    assert (segment.lease_holder, segment.lease_token) == ("one", lease.token)
    assert segment.lease_expires_at == lease.expires_at
    assert segment.lease_since is not None
    assert lease.expires_at - segment.lease_since >= LONG - timedelta(seconds=1)


def test_a_held_segment_cannot_be_claimed_not_even_by_its_holder(leases: Repository) -> None:
    claim(leases)
    assert leases.claim_segment(KEY, "two", LONG) is None
    assert leases.claim_segment(KEY, "one", LONG) is None


def test_a_claim_of_no_segment_is_an_error_and_no_endless_wait(leases: Repository) -> None:
    with pytest.raises(LookupError, match="no segment bbb"):
        leases.claim_segment("b" * 64, "one", LONG)


def test_of_many_that_claim_at_once_one_wins(leases: Repository) -> None:
    keys = [f"{number:064d}" for number in range(20)]
    plan(leases, *(slot(key, index) for index, key in enumerate(keys)))
    workers = 12
    barrier = Barrier(workers)

    def work(number: int) -> list[Lease | None]:
        claims = []
        for key in keys:
            barrier.wait()
            claims.append(leases.claim_segment(key, f"worker {number}", LONG))
        return claims

    with ThreadPoolExecutor(workers) as pool:
        claims = list(pool.map(work, range(workers)))
    for number, key in enumerate(keys):
        (winner,) = [lease for row in claims if (lease := row[number])]
        assert leases.segment(key).lease_holder == winner.holder
        assert leases.segment(key).lease_token == 1


def test_of_many_that_take_over_at_once_one_wins(leases: Repository) -> None:
    claim(leases, ttl=NOTHING)
    workers = 12
    barrier = Barrier(workers)

    def work(number: int) -> Lease | None:
        barrier.wait()
        return leases.claim_segment(KEY, f"worker {number}", LONG)

    with ThreadPoolExecutor(workers) as pool:
        winners = [lease for lease in pool.map(work, range(workers)) if lease]
    assert [lease.token for lease in winners] == [2]


def test_every_claim_raises_the_token(leases: Repository) -> None:
    tokens = []
    for holder in ("one", "two", "three"):
        lease = claim(leases, holder)
        tokens.append(lease.token)
        leases.release(lease)
    assert tokens == [1, 2, 3]


def test_a_beat_keeps_the_lease(leases: Repository) -> None:
    lease = claim(leases, ttl=NOTHING)
    renewed = leases.heartbeat(lease, LONG)
    assert renewed.token == lease.token
    assert renewed.expires_at > lease.expires_at + LONG / 2
    assert leases.claim_segment(KEY, "two", LONG) is None
    leases.finish_segment(renewed, "latents/aa/x", steps_run=12)


WRITES: dict[str, Callable[[Repository, Lease], object]] = {
    "heartbeat": lambda leases, lease: leases.heartbeat(lease, LONG),
    "save_checkpoint": lambda leases, lease: leases.save_checkpoint(
        lease, "checkpoints/aa/stale", 9, steps_run=9
    ),
    "finish_segment": lambda leases, lease: leases.finish_segment(
        lease, "latents/aa/stale", steps_run=9
    ),
    "fail_segment": lambda leases, lease: leases.fail_segment(lease, "stale"),
    "release": lambda leases, lease: leases.release(lease),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_stale_holder_is_refused(
    leases: Repository, write: Callable[[Repository, Lease], object]
) -> None:
    stale = claim(leases, "one", NOTHING)
    good = claim(leases, "two")
    with pytest.raises(LostLease, match="no longer held by one"):
        write(leases, stale)
    segment = leases.segment(KEY)
    assert (segment.state, segment.lease_holder) == (SegmentState.RUNNING, "two")
    assert (segment.checkpoint_address, segment.denoise_steps_run) == (None, 0)
    assert segment.lease_expires_at == good.expires_at


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("end", ["finish_segment", "fail_segment", "release"])
def test_an_ended_lease_is_refused(
    leases: Repository, end: str, write: Callable[[Repository, Lease], object]
) -> None:
    lease = claim(leases)
    WRITES[end](leases, lease)
    before = leases.segment(KEY)
    with pytest.raises(LostLease):
        write(leases, lease)
    after = leases.segment(KEY)
    assert (after.state, after.latents_address, after.error) == (
        before.state,
        before.latents_address,
        before.error,
    )


def test_a_slow_holder_continues_if_nobody_has_claimed(leases: Repository) -> None:
    lease = claim(leases, ttl=NOTHING)
    leases.save_checkpoint(lease, "checkpoints/aa/x", 4, steps_run=4)
    leases.finish_segment(lease, "latents/aa/x", steps_run=8)
    assert leases.segment(KEY).state is SegmentState.DONE


def test_a_done_segment_is_never_claimed_again(leases: Repository) -> None:
    leases.finish_segment(claim(leases, ttl=NOTHING), "latents/aa/x", steps_run=12)
    assert leases.claim_segment(KEY, "two", LONG) is None
    plan(leases, slot(), slot("b" * 64, 1))
    assert leases.segment(KEY).latents_address == "latents/aa/x"
    assert leases.claim_segment(KEY, "two", LONG) is None


def test_a_segment_whose_latents_are_lost_begins_anew(leases: Repository) -> None:
    lease = claim(leases)
    leases.save_checkpoint(lease, "checkpoints/aa/4", 4, steps_run=4)
    leases.finish_segment(lease, "latents/aa/lost", steps_run=8)
    leases.clear_latents(KEY, "latents/aa/lost")
    segment = leases.segment(KEY)
    assert (segment.state, segment.latents_address) == (SegmentState.WAITING, None)
    again = claim(leases, "two")
    assert (again.checkpoint_address, again.checkpoint_step) == (None, 0)
    assert again.token > lease.token
    leases.finish_segment(again, "latents/aa/new", steps_run=12)
    assert leases.segment(KEY).denoise_steps_run == 24


def test_only_the_latents_that_are_named_are_forgotten(leases: Repository) -> None:
    """Two workers may miss the same object; the later must not undo what was made since."""
    leases.clear_latents(KEY, "latents/aa/lost")  # while it waits
    lease = claim(leases)
    leases.save_checkpoint(lease, "checkpoints/aa/4", 4, steps_run=4)
    leases.clear_latents(KEY, "latents/aa/lost")  # while it is held
    leases.finish_segment(lease, "latents/aa/new", steps_run=8)
    leases.clear_latents(KEY, "latents/aa/lost")
    segment = leases.segment(KEY)
    assert (segment.state, segment.latents_address) == (SegmentState.DONE, "latents/aa/new")


def test_a_done_segment_names_no_checkpoint(leases: Repository) -> None:
    """Its last one is deleted from the store as soon as the latents are there."""
    lease = claim(leases)
    leases.save_checkpoint(lease, "checkpoints/aa/4", 4, steps_run=4)
    leases.finish_segment(lease, "latents/aa/x", steps_run=8)
    segment = leases.segment(KEY)
    assert (segment.checkpoint_address, segment.checkpoint_step) == (None, 0)
    assert segment.denoise_steps_run == 12


def test_the_next_holder_continues_from_the_checkpoint_and_steps_are_counted(
    leases: Repository,
) -> None:
    first = claim(leases, "one", NOTHING)
    leases.save_checkpoint(first, "checkpoints/aa/4", 4, steps_run=4)
    leases.save_checkpoint(first, "checkpoints/aa/8", 8, steps_run=4)
    second = claim(leases, "two")
    assert (second.checkpoint_address, second.checkpoint_step) == ("checkpoints/aa/8", 8)
    leases.finish_segment(second, "latents/aa/x", steps_run=4)
    assert leases.segment(KEY).denoise_steps_run == 12


def test_steps_done_twice_are_counted_twice(leases: Repository) -> None:
    first = claim(leases, "one", NOTHING)
    leases.save_checkpoint(first, "checkpoints/aa/8", 8, steps_run=8)
    second = claim(leases, "two")
    leases.save_checkpoint(second, "checkpoints/aa/4", 4, steps_run=4)  # could not read the other
    leases.finish_segment(second, "latents/aa/x", steps_run=8)
    assert leases.segment(KEY).denoise_steps_run == 20


def test_a_failed_segment_says_why_and_may_be_claimed_again(leases: Repository) -> None:
    leases.fail_segment(claim(leases), "out of memory")
    failed = leases.segment(KEY)
    assert (failed.state, failed.error) == (SegmentState.FAILED, "out of memory")
    claim(leases, "two")
    assert leases.segment(KEY).error is None


def test_a_released_segment_waits_with_its_checkpoint(leases: Repository) -> None:
    lease = claim(leases)
    leases.save_checkpoint(lease, "checkpoints/aa/4", 4, steps_run=4)
    leases.release(lease)
    assert leases.segment(KEY).state is SegmentState.WAITING
    assert claim(leases, "two").checkpoint_step == 4


TTL = timedelta(seconds=1.5)

HOLDER = """
import sys, time
from datetime import timedelta
from db.repository import Repository

url, key = sys.argv[1:]
repository = Repository.open(url)
ttl = timedelta(seconds=1.5)
lease = repository.claim_segment(key, "doomed", ttl)
assert lease is not None
repository.save_checkpoint(lease, "checkpoints/aa/4", 4, steps_run=4)
print("holding", flush=True)
while True:
    time.sleep(0.1)
    lease = repository.heartbeat(lease, ttl)
"""


def beaten_at(leases: Repository) -> datetime:
    beaten = leases.segment(KEY).lease_beat_at
    assert beaten is not None
    return beaten


def test_when_the_holder_is_killed_another_takes_over(
    leases: Repository, database_url: str
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, database_url, KEY], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        # It beats: long after its first second has gone it still holds the segment.
        first = beaten_at(leases)
        deadline = time.monotonic() + 30
        while beaten_at(leases) < first + 2 * TTL and time.monotonic() < deadline:
            assert leases.claim_segment(KEY, "other", LONG) is None
            time.sleep(0.1)
        assert leases.segment(KEY).lease_holder == "doomed"
        os.kill(holder.pid, signal.SIGKILL)
    finally:
        holder.kill()
        holder.communicate()
    lease = await_claim(leases, "other")
    assert (lease.token, lease.checkpoint_step) == (2, 4)
    leases.finish_segment(lease, "latents/aa/x", steps_run=8)
    assert leases.segment(KEY).denoise_steps_run == 12


def test_takes_with_shared_keys_never_wait_for_each_other_in_a_ring(
    repository: Repository, database_url: str
) -> None:
    """Whatever order a plan has, its keys go in smallest first, as everybody else's do."""
    small, large = "0" * 64, "f" * 64
    plan(repository, slot())
    insert = "INSERT INTO segments (key, steps) VALUES (%s, 12)"
    plain = database_url.replace("+psycopg", "")
    with (
        psycopg.connect(plain, autocommit=True) as watcher,
        psycopg.connect(plain) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute(insert, [small])
        planning = pool.submit(plan, repository, slot(large), slot(small, 1))
        while watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is None:
            assert not planning.done()
            time.sleep(0.02)
        other.execute(insert, [large])
        other.commit()
        planning.result(timeout=30)
    assert repository.segment(large).state is SegmentState.WAITING


def test_enlarged_latents_are_named_until_their_segment_is_done(leases: Repository) -> None:
    leases.set_enlarged(KEY, "enlarged/one")
    lease = claim(leases)
    assert leases.segment(KEY).enlarged_address == "enlarged/one"
    leases.clear_enlarged(KEY, "enlarged/another")
    assert leases.segment(KEY).enlarged_address == "enlarged/one"
    leases.clear_enlarged(KEY, "enlarged/one")
    assert leases.segment(KEY).enlarged_address is None
    assert leases.segment(KEY).lease_token == lease.token, "whoever holds it goes on"
    leases.set_enlarged(KEY, "enlarged/two")
    leases.finish_segment(lease, "latents/one", steps_run=12)
    leases.set_enlarged(KEY, "enlarged/late")
    assert leases.segment(KEY).enlarged_address is None
    leases.clear_latents(KEY, "latents/one")
    leases.set_enlarged(KEY, "enlarged/again")
    assert leases.segment(KEY).enlarged_address == "enlarged/again"


def test_a_takes_segments_keep_their_stage(leases: Repository) -> None:
    larger = SegmentSlot(
        index=1, key="b" * 64, steps=8, start=0, stop=9, tail=0, stage=Stage.UPSCALE
    )
    plan(leases, slot(), larger)
    take_id = "sb-22222222-s0-t0"
    assert [each.stage for each in leases.take_segments(take_id)] == [Stage.BASE, Stage.UPSCALE]
    shots = leases.progress("sb-22222222").shots
    assert shots[0].take is not None
    assert [(each.stage, each.index) for each in shots[0].take.segments] == [
        (Stage.BASE, 0),
        (Stage.UPSCALE, 0),
    ]
