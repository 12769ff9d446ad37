"""The farm's steps without Prefect: on a real Postgres, a real store and tiny models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from db.states import DeliverableKind
from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.rendering.take import load_condition
from dreamontage.rendering.take_plan import PlannedSegment, Stage
from dreamontage.scorer import DEFAULT_THRESHOLDS
from dreamontage.storyboard.placement import Placed
from flows import steps
from flows.actions.submit import submit
from flows.steps.postgres_ledger import PostgresLedger
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import REPOSITORY, Settings
from tests.support.boards import prompt_of

STEPS = 6  # of a base segment
HEIGHT, WIDTH = 64, 80


@pytest.fixture
def steps_settings(database_url: str, tmp_path: Path, tiny_ours: Path) -> Settings:
    """A farm of the base model alone, with short leases and a checkpoint every second step."""
    return Settings(
        home=tmp_path / "home",
        weights=tiny_ours,
        database_url=database_url,
        lease_seconds=1.5,
        heartbeat_seconds=0.3,
        checkpoint_every=2,
    )


@pytest.fixture
def steps_farm(steps_settings: Settings) -> Iterator[Farm]:
    with open_farm(steps_settings) as farm:
        for each in DEFAULT_THRESHOLDS:
            farm.repository.add_threshold(**vars(each))
        yield farm


@pytest.fixture
def upscale_settings(steps_settings: Settings, tiny_sr: Path) -> Settings:
    """The same with a super-resolution model."""
    return steps_settings.model_copy(update={"sr_weights": tiny_sr})


@pytest.fixture
def upscale_farm(upscale_settings: Settings) -> Iterator[Farm]:
    with open_farm(upscale_settings) as farm:
        yield farm


@pytest.fixture
def two_model_farm(
    database_url: str, tmp_path: Path, tiny_ours: Path, tiny_sr: Path
) -> Iterator[Farm]:
    """A farm of both models, with its usual leases and checkpoints."""
    settings = Settings(
        home=tmp_path / "home", weights=tiny_ours, sr_weights=tiny_sr, database_url=database_url
    )
    with open_farm(settings) as farm:
        yield farm


def shot_of(farm: Farm, storyboard_id: str) -> str:
    """The id of a storyboard's only shot."""
    (shot,) = farm.repository.shots(storyboard_id)
    return shot.id


def take_of(farm: Farm, storyboard_id: str, attempt: int = 0) -> steps.FarmTake:
    return steps.begin_take(farm, shot_of(farm, storyboard_id), attempt)


def submit_take(farm: Farm, board: Path) -> steps.FarmTake:
    """Submit a storyboard and begin its first take."""
    (submitted,) = submit(farm, board)
    return take_of(farm, submitted.id)


def render_shot(farm: Farm, storyboard_id: str, attempt: int = 0) -> int:
    """Render all segments of a shot; return the number of denoise steps that ran."""
    return sum(render_segments(farm, take_of(farm, storyboard_id, attempt)))


def render_segments(
    farm: Farm, take: steps.FarmTake, segments: Sequence[PlannedSegment] | None = None
) -> list[int]:
    """Render segments, by default all; return the number of denoise steps that each one ran."""
    chosen = take.segments if segments is None else segments
    return [steps.render_segment(farm, take, each) for each in chosen]


def first_keys(farm: Farm, storyboard_id: str) -> list[str]:
    """The segment keys of a shot's first take, as the database has them."""
    rows = farm.repository.take_segments(f"{shot_of(farm, storyboard_id)}-t0")
    return [row.key for row in rows]


def base_segments(take: steps.FarmTake) -> list[PlannedSegment]:
    return take.plan.of_stage(Stage.BASE)


def refined_segments(take: steps.FarmTake) -> list[PlannedSegment]:
    return take.plan.of_stage(Stage.UPSCALE)


def latents_of(farm: Farm, key: str) -> torch.Tensor:
    return PostgresLedger(farm).latents(key)


def latents_address(farm: Farm, key: str) -> str:
    address = farm.repository.segment(key).latents_address
    assert address is not None
    return address


def address_kinds(farm: Farm) -> dict[str, int]:
    """How many objects of each kind are in the store."""
    found = [stat.address.split("/")[0] for stat in farm.store.list()]
    return {kind: found.count(kind) for kind in found}


def record_address(farm: Farm, storyboard_id: str) -> str:
    (record,) = (
        each.address
        for each in farm.repository.deliverables(storyboard_id)
        if each.kind is DeliverableKind.RECORD
    )
    return record


def interrupt_at_five(step: int, total: int) -> None:
    """A progress callback: the process is stopped when step 5 is done."""
    if step == 5:
        raise KeyboardInterrupt


def tear(farm: Farm, address: str) -> None:
    """Change the last byte of an object behind the store's back."""
    path = farm.settings.home / "store" / address
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 0xFF]))


_HOLD = """
import sys
from flows import steps
from flows.studio.farm import open_farm
from flows.studio.settings import Settings
from tests.support.alignment import aligned_loads

settings = Settings.model_validate_json(sys.argv[1])
shot_id, number, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def stop_at(step, total):
    if step == last:
        print("holding", flush=True)
        sys.stdin.read()
with open_farm(settings) as farm, aligned_loads():
    take = steps.begin_take(farm, shot_id, 0)
    steps.render_segment(farm, take, take.segments[number], progress=stop_at)
"""


def start_holder(
    settings: Settings, shot_id: str, *, segment: int, step: int
) -> subprocess.Popen[str]:
    """Start a process that renders a segment of a shot's first take. When the step is done, it
    prints "holding" and waits with its lease.
    """
    arguments = (settings.model_dump_json(), shot_id, str(segment), str(step))
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def conditions_of(farm: Farm, shot_id: str) -> tuple[list[Placed], list[Keyframe | Clip]]:
    """A shot's conditions: their places, and what the pipeline is given."""
    placed: list[Placed] = []
    conditions: list[Keyframe | Clip] = []
    with farm.scratch() as folder:
        for row in farm.repository.conditions(shot_id):
            each = Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=row.frames)
            path = farm.store.fetch(row.rendition_address, folder / str(row.index))
            placed.append(each)
            conditions.append(load_condition(each, path))
    return placed, conditions


def straight_through(farm: Farm, storyboard_id: str, **options: Any) -> torch.Tensor:
    """A shot's fused latents from one call of the pipeline. Nothing is stored between."""
    board = steps.board_of(farm, storyboard_id)
    shot = farm.repository.shot(shot_of(farm, storyboard_id))
    _, conditions = conditions_of(farm, shot.id)
    pipe = DreaMontagePipeline.from_pretrained(farm.settings.weights)
    output: Any = pipe(
        prompt=prompt_of(board.shots[0].prompts),
        conditions=conditions,
        height=HEIGHT,
        width=WIDTH,
        num_frames=shot.frames,
        loop=board.shots[0].loop,
        seed=shot.seed,
        output_type="latent",
        **options,
    )
    latents: torch.Tensor = output.frames
    return latents
