"""Leases and plans against a simple model: any order of calls, on a real Postgres.

The model is what `db/leases.py` promises, in a few lines of Python. Hypothesis calls the queries in
random orders, with leases that were replaced, ended or have expired, and compares every row with
the model after each call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from db import ids
from db.leases import Lease, LostLease, SegmentSlot
from db.repository import Repository
from db.states import SegmentState, Stage, TakeState, Verdict
from db.takes import ScoreRow, StaleTake
from tests.support.rows import HILL, add_board, slots

LONG = timedelta(minutes=5)
STEPS = 12
KEYS = 3

_examples = count()

key_numbers = st.integers(0, KEYS - 1)
holders = st.sampled_from(["one", "two", "three"])


@dataclass
class Row:
    """What the model knows of a segment."""

    state: SegmentState = SegmentState.WAITING
    holder: str | None = None
    token: int = 0
    expired: bool = False
    checkpoint: tuple[str | None, int] = (None, 0)
    latents: str | None = None
    enlarged: str | None = None
    steps_run: int = 0
    error: str | None = None

    def end(self, state: SegmentState) -> None:
        self.state, self.holder, self.expired = state, None, False


@dataclass
class TakeRow:
    """What the model knows of the take."""

    slots: list[SegmentSlot] = dataclasses.field(default_factory=list)
    frames: str | None = None
    judged: bool = False


windows = st.builds(
    SegmentSlot,
    index=st.just(0),
    key=st.just(""),
    steps=st.just(STEPS),
    start=st.integers(0, 1),
    stop=st.integers(3, 4),
    tail=st.integers(0, 1),
    stage=st.sampled_from(Stage),
)


class LeaseMachine(RuleBasedStateMachine):
    """Three segments and one take in a database that earlier examples have used, too."""

    leases = Bundle("leases")

    def __init__(self, repository: Repository, clock: psycopg.Connection[tuple[object]]) -> None:
        super().__init__()
        self.repository, self.clock = repository, clock
        self.addresses = count()
        number = next(_examples)
        self.keys = [f"{number:032x}{each:032x}" for each in range(KEYS)]
        board = f"sb-{number:08d}"
        add_board(repository, board, HILL)
        self.take_id = repository.start_take(ids.shot_id(board, 0), 0, 1).id
        self.rows: dict[str, Row] = {}
        self.take = TakeRow()

    def address(self) -> str:
        return f"objects/{next(self.addresses)}"

    def held(self, lease: Lease) -> Row | None:
        """The segment's row, if the lease is still good for writing."""
        row = self.rows[lease.key]
        good = row.state is SegmentState.RUNNING and row.token == lease.token
        return row if good else None

    @initialize()
    def plan_all(self) -> None:
        self._plan(
            [
                dataclasses.replace(each, key=key)
                for each, key in zip(slots("a", "b", "c"), self.keys, strict=True)
            ]
        )

    @rule(chosen=st.lists(st.tuples(key_numbers, windows), min_size=1, max_size=KEYS))
    def plan(self, chosen: list[tuple[int, SegmentSlot]]) -> None:
        self._plan(
            [
                dataclasses.replace(window, index=index, key=self.keys[number])
                for index, (number, window) in enumerate(chosen)
            ]
        )

    @rule()
    def plan_the_same_again(self) -> None:
        self._plan(list(self.take.slots))

    def _plan(self, planned: list[SegmentSlot]) -> None:
        self.repository.set_take_segments(self.take_id, planned)
        for slot in planned:
            self.rows.setdefault(slot.key, Row())
        if planned != self.take.slots:
            self.take = TakeRow(slots=planned)

    @rule(target=leases, number=key_numbers, holder=holders)
    def claim(self, number: int, holder: str) -> object:
        key = self.keys[number]
        row = self.rows[key]
        lease = self.repository.claim_segment(key, holder, LONG)
        if row.state is SegmentState.DONE or (
            row.state is SegmentState.RUNNING and not row.expired
        ):
            assert lease is None
            return multiple()
        assert lease is not None
        row.state, row.holder, row.expired, row.error = SegmentState.RUNNING, holder, False, None
        row.token += 1
        assert (lease.key, lease.holder, lease.token) == (key, holder, row.token)
        assert lease.steps == STEPS
        assert (lease.checkpoint_address, lease.checkpoint_step) == row.checkpoint
        return lease

    @rule(number=key_numbers)
    def expire(self, number: int) -> None:
        """Time passes: as if the holder had sent no heartbeat for a long time."""
        key = self.keys[number]
        row = self.rows[key]
        if row.state is SegmentState.RUNNING:
            self.clock.execute(
                "UPDATE segments SET lease_expires_at = now() - interval '1 s' WHERE key = %s",
                [key],
            )
            row.expired = True

    @rule(lease=leases)
    def heartbeat(self, lease: Lease) -> None:
        if row := self.held(lease):
            renewed = self.repository.heartbeat(lease, LONG)
            row.expired = False
            assert (renewed.token, renewed.holder) == (lease.token, lease.holder)
            assert (renewed.checkpoint_address, renewed.checkpoint_step) == row.checkpoint
        else:
            with pytest.raises(LostLease, match=lease.key):
                self.repository.heartbeat(lease, LONG)

    @rule(lease=leases, step=st.integers(0, STEPS), steps_run=st.integers(0, 4))
    def checkpoint(self, lease: Lease, step: int, steps_run: int) -> None:
        address = self.address()
        if row := self.held(lease):
            self.repository.save_checkpoint(lease, address, step, steps_run=steps_run)
            row.checkpoint = (address, step)
            row.steps_run += steps_run
        else:
            with pytest.raises(LostLease):
                self.repository.save_checkpoint(lease, address, step, steps_run=steps_run)

    @rule(lease=leases, steps_run=st.integers(0, 4))
    def finish(self, lease: Lease, steps_run: int) -> None:
        address = self.address()
        if row := self.held(lease):
            self.repository.finish_segment(lease, address, steps_run=steps_run)
            row.end(SegmentState.DONE)
            row.latents, row.enlarged, row.checkpoint = address, None, (None, 0)
            row.steps_run += steps_run
        else:
            with pytest.raises(LostLease):
                self.repository.finish_segment(lease, address, steps_run=steps_run)

    @rule(lease=leases)
    def fail(self, lease: Lease) -> None:
        if row := self.held(lease):
            self.repository.fail_segment(lease, "out of memory")
            row.end(SegmentState.FAILED)
            row.error = "out of memory"
        else:
            with pytest.raises(LostLease):
                self.repository.fail_segment(lease, "out of memory")

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        if row := self.held(lease):
            self.repository.release(lease)
            row.end(SegmentState.WAITING)
        else:
            with pytest.raises(LostLease):
                self.repository.release(lease)

    @rule(number=key_numbers, other=st.booleans())
    def clear_latents(self, number: int, other: bool) -> None:
        key = self.keys[number]
        row = self.rows[key]
        address = "objects/other" if other or row.latents is None else row.latents
        self.repository.clear_latents(key, address)
        if address == row.latents:
            row.state, row.latents, row.checkpoint = SegmentState.WAITING, None, (None, 0)

    @rule(number=key_numbers)
    def set_enlarged(self, number: int) -> None:
        key, address = self.keys[number], self.address()
        self.repository.set_enlarged(key, address)
        if self.rows[key].state is not SegmentState.DONE:
            self.rows[key].enlarged = address

    @rule(number=key_numbers, other=st.booleans())
    def clear_enlarged(self, number: int, other: bool) -> None:
        key = self.keys[number]
        row = self.rows[key]
        address = "objects/other" if other or row.enlarged is None else row.enlarged
        self.repository.clear_enlarged(key, address)
        if address == row.enlarged:
            row.enlarged = None

    @rule(other=st.booleans())
    def finish_take(self, other: bool) -> None:
        segment_keys = [slot.key for slot in self.take.slots] + ["x" * 64] * other
        address = self.address()
        if other:
            with pytest.raises(StaleTake):
                self.repository.finish_take(self.take_id, address, segment_keys=segment_keys)
        else:
            self.repository.finish_take(self.take_id, address, segment_keys=segment_keys)
            self.take.frames = address

    @rule(other=st.booleans())
    def judge(self, other: bool) -> None:
        address = "objects/other" if other or self.take.frames is None else self.take.frames
        scores = [ScoreRow(name="cuts", value=1.0)]

        def judge_take() -> None:
            self.repository.judge_take(
                self.take_id, Verdict.PASS, [], scores, mezzanine_address=address
            )

        if address == self.take.frames:
            judge_take()
            self.take.judged = True
        else:
            with pytest.raises(StaleTake):
                judge_take()

    @rule(other=st.booleans())
    def clear_mezzanine(self, other: bool) -> None:
        address = "objects/other" if other or self.take.frames is None else self.take.frames
        self.repository.clear_mezzanine(self.take_id, address)
        if address == self.take.frames:
            self.take.frames, self.take.judged = None, False

    @invariant()
    def segments_are_as_modelled(self) -> None:
        for key, row in self.rows.items():
            found = self.repository.segment(key)
            assert (
                Row(
                    state=found.state,
                    holder=found.lease_holder,
                    token=found.lease_token,
                    expired=row.expired,
                    checkpoint=(found.checkpoint_address, found.checkpoint_step),
                    latents=found.latents_address,
                    enlarged=found.enlarged_address,
                    steps_run=found.denoise_steps_run,
                    error=found.error,
                )
                == row
            )

    @invariant()
    def take_is_as_modelled(self) -> None:
        planned = [
            SegmentSlot(
                index=row.index,
                key=row.key,
                steps=STEPS,
                start=row.start,
                stop=row.stop,
                tail=row.tail,
                stage=row.stage,
            )
            for row in self.repository.take_segments(self.take_id)
        ]
        assert planned == self.take.slots
        take = self.repository.take(self.take_id)
        rendered = self.take.frames is not None
        assert take.state is (TakeState.RENDERED if rendered else TakeState.RENDERING)
        assert take.mezzanine_address == self.take.frames
        assert take.verdict is (Verdict.PASS if self.take.judged else None)
        assert len(self.repository.scores(self.take_id)) == int(self.take.judged)


@pytest.fixture
def clock(database_url: str) -> Iterator[psycopg.Connection[tuple[object]]]:
    """A connection of its own, to move a lease's end into the past."""
    plain = database_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        yield connection


def test_any_order_of_calls_is_as_the_model_has_it(
    repository: Repository, clock: psycopg.Connection[tuple[object]]
) -> None:
    def machine() -> LeaseMachine:
        return LeaseMachine(repository, clock)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type] # a factory is as good as a class
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"key": "c" * 64},
        {"start": 7},
        {"stop": 18},
        {"tail": 0},
        {"stage": Stage.UPSCALE},
        {"index": 5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_plan_that_differs_in_one_field_reopens_the_take(
    repository: Repository, change: dict[str, object]
) -> None:
    add_board(repository, "sb-22222222", HILL)
    take = repository.start_take("sb-22222222-s0", 0, 1).id
    first, second = slots("a", "b")
    repository.set_take_segments(take, [first, second])
    segment_keys = [first.key, second.key]
    repository.finish_take(take, "takes/aa/m.mkv", segment_keys=segment_keys)
    repository.set_take_segments(take, [first, dataclasses.replace(second)])
    assert repository.take(take).state is TakeState.RENDERED
    changed = dataclasses.replace(second, **change)  # type: ignore[arg-type]
    repository.set_take_segments(take, [first, changed])
    assert repository.take(take).state is TakeState.RENDERING
    (_, row) = repository.take_segments(take)
    assert {name: getattr(row, name) for name in change} == change
