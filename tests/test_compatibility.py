"""What was made with commit dbc79fb is read, found and gone on with: a ledger folder, a farm's
database and store, and model folders. ``support/dbc79fb/README.md`` says what there is.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import load_file

from db import migrate
from db.engine import open_engine
from db.states import DeliverableKind, SegmentState, ShotState, StoryboardState
from dreamontage import DreaMontagePipeline, media
from dreamontage.rendering.local import render
from dreamontage.storyboard import Storyboard, load
from flows import steps
from flows.actions.submit import submit
from flows.steps.postgres_ledger import PostgresLedger
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings

OLD = Path(__file__).parent / "support" / "dbc79fb"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())


# --- What the tests share -------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """As ``make.py`` has it: what bits of a film depend on beside its key."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = ("vendor_id", "cpu family", "model", "stepping")
    processor = [
        next((line.split(":")[1].strip() for line in lines if line.partition("\t")[0] == name), "?")
        for name in names
    ]
    packages = ("torch", "diffusers", "transformers", "numpy", "pillow", "av", "imageio-ffmpeg")
    return {
        "processor": " ".join(processor),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        **{name: metadata.version(name) for name in packages},
    }


SAME_MACHINE = machine() == EXPECTED["machine"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_same_film(film: Path, board: str) -> None:
    """The bytes of the old film; on another kind of machine, where arithmetic rounds otherwise, its
    frames to within half a grey level on average.
    """
    if SAME_MACHINE:
        assert sha256(film) == EXPECTED["farm"][board]["film"]
    (old,) = [*(OLD / "ledger").glob(f"{board}.*mp4"), *(OLD / "expected").glob(f"{board}.mp4")]
    found_THWC, old_THWC = (
        np.stack(list(media.read_frames(path))).astype(float) for path in (film, old)
    )
    assert found_THWC.shape == old_THWC.shape
    assert np.abs(found_THWC - old_THWC).mean() < 0.5


def assert_same_latents(latents_BCLHW: torch.Tensor, board: str, key: str) -> None:
    """Those that the old code ended in; nothing is said of them on another kind of machine, where
    the film is compared.
    """
    if SAME_MACHINE:
        raw = latents_BCLHW.contiguous().numpy().tobytes()
        assert hashlib.sha256(raw).hexdigest() == EXPECTED["farm"][board]["latents"][key]


class Steps:
    """How many denoise steps have been run, by whatever code runs them."""

    run = 0


@pytest.fixture
def denoised(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Counted where every sampling loop has to come by: at diffusers' scheduler. A scheduler is
    tried on a single number before it is used, which is no denoise step.
    """
    steps = Steps()
    step = UniPCMultistepScheduler.step

    def counted(self: Any, prediction: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        steps.run += prediction.numel() > 1
        return step(self, prediction, *args, **kwargs)

    monkeypatch.setattr(UniPCMultistepScheduler, "step", counted)
    return steps


@pytest.fixture
def earlier_models(tmp_path: Path) -> Path:
    """The two model folders, where something may be written beside them."""
    return Path(shutil.copytree(OLD / "models", tmp_path / "models"))


# --- Model folders --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["base", "sr"])
def test_a_model_folder_is_the_same_model(name: str, earlier_models: Path) -> None:
    """Its revision is part of every key. It changes too if a checkout alters the files' bytes."""
    assert (
        DreaMontagePipeline.from_pretrained(earlier_models / name).revision
        == EXPECTED["models"][name]
    )


# --- The ledger folder ----------------------------------------------------------------------------


def _without_coarse_levels(board: Storyboard) -> Storyboard:
    """With `coarse: off`, which keeps the keys of before. Rows get it by a migration."""
    shots = tuple(shot.model_copy(update={"coarse": "off"}) for shot in board.shots)
    return board.model_copy(update={"shots": shots})


def rendered(board: str, ledger: Path, models: Path) -> Path:
    """Render a storyboard into a ledger folder; the film."""
    pipe, sr = (
        DreaMontagePipeline.from_pretrained(models / name, dtype=torch.float32)
        for name in ("base", "sr")
    )
    path = OLD / "boards" / f"{board}.yaml"
    wanted = _without_coarse_levels(load(path))
    made, _ = render(
        wanted, path.parent, ledger, pipe, sr=sr if wanted.upscale else None, name=board
    )
    return made.film


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The old ledger folder, without the films."""
    folder = Path(shutil.copytree(OLD / "ledger", tmp_path / "ledger"))
    for film in folder.glob("*.mp4"):
        film.unlink()
    return folder


def segments(ledger: Path) -> dict[str, bytes]:
    """The finished latents; embeddings, which the new code stores beside them, are left out."""
    files = (ledger / "segments").glob("*.safetensors")
    return {file.name: file.read_bytes() for file in files if file.name.count(".") == 1}


@pytest.mark.parametrize("board", ["walk", "large"])
def test_finished_segments_in_a_folder_are_found(
    board: str, ledger: Path, earlier_models: Path, denoised: Steps
) -> None:
    before = segments(ledger)
    old_record = json.loads((ledger / f"{board}.smoke.json").read_text())
    film = rendered(board, ledger, earlier_models)
    assert denoised.run == 0
    assert segments(ledger) == before
    assert_same_film(film, board)
    assert film.name == old_record["film"], "the label of barely trained weights is read, too"


@pytest.mark.parametrize(("board", "count"), [("walk", 6), ("large", 6)])
def test_one_segment_that_is_missing_in_a_folder_is_all_that_is_rendered(
    board: str, count: int, ledger: Path, earlier_models: Path, denoised: Steps
) -> None:
    record = json.loads((ledger / f"{board}.smoke.json").read_text())
    shot = record["shots"][0]
    key = (shot.get("upscaled") or shot["segments"])[-1]["key"]
    lost = ledger / "segments" / f"{key}.safetensors"
    lost.unlink()
    film = rendered(board, ledger, earlier_models)
    assert denoised.run == count
    assert_same_latents(load_file(lost)["latents"], board, key)
    assert_same_film(film, board)


# --- The farm -------------------------------------------------------------------------------------


@pytest.fixture
def earlier_farm(empty_url: str, tmp_path: Path, earlier_models: Path) -> Iterator[Farm]:
    """The old farm, as it is after an update: its rows and its store, and the new code."""
    engine = open_engine(empty_url)
    connection = engine.raw_connection()
    try:
        connection.cursor().execute((OLD / "database.sql").read_text())
        connection.commit()
    finally:
        connection.close()
        engine.dispose()
    migrate.upgrade(empty_url)
    migrate.check(empty_url)
    home = tmp_path / "home"
    shutil.copytree(OLD / "store", home / "store")
    settings = Settings(
        home=home,
        weights=earlier_models / "base",
        sr_weights=earlier_models / "sr",
        database_url=empty_url,
        checkpoint_every=2,
    )
    with open_farm(settings) as farm:
        yield farm


def finish(farm: Farm, storyboard_id: str) -> dict[str, int]:
    """What the flows do for a storyboard; the denoise steps that were run, by segments' keys."""
    repository = farm.repository
    if repository.storyboard(storyboard_id).state is StoryboardState.SUBMITTED:
        repository.set_storyboard_state(storyboard_id, StoryboardState.RENDERING)
    run: dict[str, int] = {}
    for shot in repository.shots(storyboard_id):
        take = steps.begin_take(farm, shot.id, 0)
        assert steps.encode_prompts(farm, take) == 0, "embeddings are found as well"
        run |= {each.key: steps.render_segment(farm, take, each) for each in take.segments}
        steps.decode_take(farm, take)
        steps.gate_take(farm, take, takes_left=0)
        repository.set_shot_state(shot.id, ShotState.DONE)
    steps.assemble(farm, storyboard_id)
    repository.set_storyboard_state(storyboard_id, StoryboardState.DONE)
    return run


def fetched(farm: Farm, storyboard_id: str, path: Path) -> Path:
    """A storyboard's film, as a file."""
    found = {each.kind: each.address for each in farm.repository.deliverables(storyboard_id)}
    assert found.keys() == set(DeliverableKind)
    return farm.store.fetch(found[DeliverableKind.FILM], path)


def test_a_finished_storyboard_is_found_and_fetched(
    earlier_farm: Farm, tmp_path: Path, denoised: Steps
) -> None:
    old = EXPECTED["farm"]["walk"]
    storyboard = earlier_farm.repository.find_storyboard(old["id"])
    assert storyboard.state is StoryboardState.DONE
    progress = earlier_farm.repository.progress(old["id"])
    assert {each.segment.state for each in progress.segments} == {SegmentState.DONE}
    assert sha256(fetched(earlier_farm, old["id"], tmp_path / "film.mp4")) == old["film"]
    for shot in earlier_farm.repository.shots(old["id"]):
        assert shot.state is ShotState.DONE
        (take,) = earlier_farm.repository.takes(shot.id)
        planned = steps.begin_take(earlier_farm, shot.id, 0)
        assert set(planned.plan.keys) <= old["latents"].keys()
        assert steps.decode_take(earlier_farm, planned) == take.mezzanine_address, (
            "its frames still count"
        )
    assert denoised.run == 0


@pytest.mark.parametrize("board", ["guided", "large"])
def test_a_storyboard_in_mid_flight_goes_on_where_it_stopped(
    board: str, earlier_farm: Farm, tmp_path: Path, denoised: Steps
) -> None:
    """One whose lease was given back, and one whose worker died in the super-resolution stage; both
    in the middle of their second window, with a checkpoint two steps before its end.
    """
    old = EXPECTED["farm"][board]
    assert earlier_farm.repository.storyboard(old["id"]).state is StoryboardState.RENDERING
    run = finish(earlier_farm, old["id"])
    begun, untouched = old["unfinished"]
    assert {key: count for key, count in run.items() if count} == {begun: 2, untouched: 6}
    assert denoised.run == old["steps_to_run"] == 8
    for key in old["unfinished"]:
        assert_same_latents(PostgresLedger(earlier_farm).latents(key), board, key)
    assert_same_film(fetched(earlier_farm, old["id"], tmp_path / "film.mp4"), board)


def test_a_finished_storyboard_that_is_submitted_again_costs_no_steps(
    earlier_farm: Farm, tmp_path: Path, denoised: Steps
) -> None:
    (again,) = submit(earlier_farm, OLD / "boards" / "walk.yaml")
    assert again.id != EXPECTED["farm"]["walk"]["id"]
    run = finish(earlier_farm, again.id)
    assert run == dict.fromkeys(EXPECTED["farm"]["walk"]["latents"], 0)
    assert denoised.run == 0
    assert_same_film(fetched(earlier_farm, again.id, tmp_path / "film.mp4"), "walk")
