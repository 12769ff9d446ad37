"""The farm's command line: what it refuses, what it tells, and when it stops waiting."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from db.progress import StoryboardProgress
from db.states import Stage, StoryboardState
from flows.actions import start
from flows.actions import submit as submit_action
from flows.actions.submit import submit
from flows.cli import commands
from flows.cli import progress as progress_view
from flows.studio import farm as farm_module
from flows.studio.processes import python
from flows.studio.services import write_stack_state
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard
from tests.support.farm import Farm

TITLE = "Ad [/] one"


@pytest.fixture
def offline_settings(database_url: str, tmp_path: Path, tiny_ours: Path) -> Settings:
    """A database and a store, but where Prefect should be nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return Settings(
        home=tmp_path / "home",
        weights=tiny_ours,
        database_url=database_url,
        prefect_api_url=f"http://127.0.0.1:{port}/api",
    )


@pytest.fixture
def offline_farm(offline_settings: Settings) -> Iterator[farm_module.Farm]:
    with farm_module.open_farm(offline_settings) as opened:
        yield opened


def dreamontage(settings: Settings, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("-m", "flows.cli", *map(str, arguments)),
        env=settings.environment(COLUMNS="300"),
        capture_output=True,
        text=True,
    )


def plain(shown: object) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_nothing_is_stored_that_cannot_be_started(
    offline_settings: Any, offline_farm: Any, write_board: WriteBoard
) -> None:
    result = dreamontage(offline_settings, "submit", write_board())
    assert result.returncode == 1
    assert "does not answer" in result.stderr
    assert "dreamontage up" in result.stderr
    assert offline_farm.repository.recent_storyboards(5) == []
    assert not list(offline_farm.store.list())


def test_titles_and_errors_are_no_markup(offline_farm: Any, write_board: WriteBoard) -> None:
    error = "no [bold] thing at [/dim]"
    (submitted,) = submit(offline_farm, write_board(title=TITLE))
    offline_farm.repository.set_storyboard_state(submitted.id, StoryboardState.RENDERING)
    offline_farm.repository.set_storyboard_state(submitted.id, StoryboardState.FAILED, error=error)
    progress = offline_farm.repository.progress(submitted.id)
    assert f"{TITLE}: failed" in plain(progress_view.tree(progress))
    assert error in plain(progress_view.tree(progress))
    assert TITLE in plain(progress_view.summary([progress]))

    console = Console(file=io.StringIO(), width=300)
    ended = progress_view.until_final(offline_farm, [submitted.id], console)
    assert [each.storyboard.state for each in ended] == [StoryboardState.FAILED]
    assert isinstance(console.file, io.StringIO)
    assert error in console.file.getvalue()


def test_segment_errors_are_no_markup() -> None:
    segment = SimpleNamespace(state="failed", steps=4, error="a [/] in it", lease_holder=None)
    progress = {"segment": segment, "index": 0, "step": 1, "lease_age": None}
    failed: Any = SimpleNamespace(stage=Stage.UPSCALE, **progress)
    shown = progress_view.segment_line(failed)
    assert "upscale 1 failed 1/4" in plain(shown)
    assert "a [/] in it" in plain(shown)


def test_another_store_is_refused(
    offline_settings: Any, offline_farm: Any, write_board: WriteBoard
) -> None:
    write_stack_state(
        offline_settings,
        database_url=offline_settings.database(),
        store="bucket films at s3.studio:9000",
    )
    result = dreamontage(offline_settings, "status")
    assert result.returncode == 1
    assert "S3_ENDPOINT" in result.stderr
    assert "bucket films at s3.studio:9000" in result.stderr
    write_stack_state(offline_settings, database_url="postgresql+psycopg://elsewhere/film")
    assert dreamontage(offline_settings, "status").returncode == 0, (
        "that studio is not the one meant"
    )


def test_an_unreachable_database_is_reported_in_one_line(offline_settings: Any) -> None:
    port = offline_settings.prefect_api_url.partition("127.0.0.1:")[2].partition("/")[0]
    silent = offline_settings.model_copy(
        update={"database_url": f"postgresql+psycopg://127.0.0.1:{port}/film"}
    )
    result = dreamontage(silent, "status")
    assert result.returncode == 1
    assert "the database does not answer: start the studio with `dreamontage up`" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("fault", [KeyError("x"), IndexError("list index")])
def test_bugs_are_not_reported_as_user_errors(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    def fail() -> None:
        raise fault

    monkeypatch.setattr(commands, "app", fail)
    with pytest.raises(type(fault)):
        commands.main()


SHOW = """
from flows import artifacts
bar = artifacts.Progress("Take-0")
bar.update(1, 1)
bar.finish()
"""


def test_showing_fails_no_work(offline_settings: Any) -> None:
    """With no server, a segment's progress is only logged."""
    result = subprocess.run(
        python("-c", SHOW), env=offline_settings.environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "progress of take-0 is not shown in Prefect: ConnectError" in result.stderr


LIBRARY = """
import sys
for name in ("sqlalchemy", "httpx", "psutil", "prefect"):
    sys.modules[name] = None
from flows.main import main
sys.argv = ["dreamontage", *sys.argv[1:]]
main()
"""


def without_studio(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", LIBRARY, *arguments),
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_the_library_alone_has_its_commands(write_board: WriteBoard) -> None:
    result = without_studio("validate", str(write_board()))
    assert result.returncode == 0, result.stderr
    assert without_studio("--help").returncode == 0


def test_the_library_alone_names_the_extra() -> None:
    result = without_studio("up")
    assert result.returncode == 1
    assert "dreamontage[studio]" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.xdist_group("farm")
class TestWithPrefect:
    """On the studio that the tests share; its deployments are left as they are."""

    def test_one_bad_file_keeps_all_out(
        self, farm: Farm, opened_farm: farm_module.Farm, write_board: WriteBoard
    ) -> None:
        good, bad = write_board("good", title="Kept out"), write_board("bad", fps=0)
        result = dreamontage(farm.settings, "submit", good, bad)
        assert result.returncode == 1
        assert f"{bad}: fps" in result.stderr
        assert "Kept out" not in {
            each.title for each in opened_farm.repository.recent_storyboards(50)
        }

    def test_several_files_are_submitted_before_any_starts(
        self,
        farm: Farm,
        opened_farm: farm_module.Farm,
        write_board: WriteBoard,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stored: list[set[str]] = []

        def begin(settings: Settings, storyboard_id: str) -> str:
            stored.append({each.title for each in opened_farm.repository.recent_storyboards(50)})
            return "00000000-0000-0000-0000-000000000000"

        for name, value in farm.settings.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(submit_action, "start_storyboard", begin)
        commands.submit([write_board("a", title="First of two"), write_board("b", title="Second")])
        assert [each >= {"First of two", "Second"} for each in stored] == [True, True]

    def test_a_storyboard_is_started_once(self, farm: Farm) -> None:
        name = "no-such-storyboard"
        run = start.start_storyboard(farm.settings, name)
        assert start.start_storyboard(farm.settings, name) == run
        farm.set_state(run, type="CANCELLED", name="Cancelled")

    def test_waiting_ends_when_the_run_has_died(
        self, farm: Farm, opened_farm: farm_module.Farm, write_board: WriteBoard
    ) -> None:
        (submitted,) = submit(opened_farm, write_board(title=TITLE))
        deployment = farm.get("/deployments/name/render-storyboard/render-storyboard")["id"]
        # Before it could begin: of others, the supervisor tells.
        run = farm.start(deployment, "CRASHED", storyboard_id=submitted.id)
        opened_farm.repository.set_flow_run(submitted.id, run)
        result = io.StringIO()
        found: list[StoryboardProgress] = progress_view.until_final(
            opened_farm, [submitted.id], Console(file=result, width=300)
        )
        assert found[0].storyboard.state is StoryboardState.FAILED
        assert "its run ended: Crashed; retry it in the Prefect UI" in result.getvalue()
        row = opened_farm.repository.storyboard(submitted.id)
        assert row.state is StoryboardState.SUBMITTED, "the row is the run's to set"
