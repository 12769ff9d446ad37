"""`up` and `down`: whatever happened before, the one leaves a whole stack and the other none."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from db.repository import Repository
from dreamontage.scorer import DEFAULT_THRESHOLDS
from flows.studio import services, stack
from flows.studio.processes import Service, process_start_time, python, stop
from flows.studio.settings import NotUpError, Settings
from tests.support.farm import Farm, await_that, end

pytestmark = pytest.mark.xdist_group("farm")

NAMES = ("server", "supervisor", "worker-cpu", "worker-gpu")


def command(settings: Settings, name: str) -> "subprocess.Popen[str]":
    """`dreamontage up` or `down`, as a user would start it."""
    return subprocess.Popen(
        python("-c", "from flows.cli import main; main()", name),
        env=settings.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(settings: Settings) -> set[int]:
    """Every process that has anything to do with this home."""
    found = set()
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(settings.home) in word for word in words):
            found.add(process.pid)
    return found - {os.getpid()}


@pytest.fixture(scope="module")
def stack_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home of its own, to break: with the stock process worker, as the shared one has ours."""
    settings = Settings(home=tmp_path_factory.mktemp("stack"), worker="process")
    yield settings
    end(settings)


@pytest.fixture
def broken(stack_settings: Settings) -> Iterator[Farm]:
    """That stack, running."""
    stack.up(stack_settings)
    with services.client(stack_settings) as api:
        yield Farm(settings=stack_settings, api=api)


def test_up_again_changes_nothing(farm: Farm) -> None:
    before = {name: farm.pid(name) for name in NAMES}
    assert all(before.values())
    assert stack.up(farm.settings) == services.ui_address(farm.settings)
    assert {name: farm.pid(name) for name in NAMES} == before


def test_other_settings_restart_the_workers(stack_settings: Settings) -> None:
    stack.up(stack_settings)
    with services.client(stack_settings) as api:
        before = {name: Farm(settings=stack_settings, api=api).pid(name) for name in NAMES}
        other = stack_settings.model_copy(update={"max_takes": 7})
        stack.up(other)
        after = {name: Farm(settings=other, api=api).pid(name) for name in NAMES}
    assert after["server"] == before["server"]
    for name in ("supervisor", "worker-cpu", "worker-gpu"):
        assert after[name] not in (None, before[name])
        pid = after[name]
        assert pid
        assert psutil.Process(pid).environ()["DREAMONTAGE_MAX_TAKES"] == "7"


def test_up_finds_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="S3_ACCESS_KEY"):
        stack.up(Settings(home=tmp_path, s3_endpoint="s3.studio:9000"))
    assert not (tmp_path / "postgres").exists()


def test_gate_has_its_thresholds(farm: Farm) -> None:
    with Repository.open(farm.settings.database()) as repository:
        assert {t.name for t in repository.thresholds()} == {t.name for t in DEFAULT_THRESHOLDS}
        name = DEFAULT_THRESHOLDS[0].name
        repository.set_threshold(name, retake_below=0.123)
        stack.up(farm.settings)  # must not undo what an operator has set
        assert {t.name: t.retake_below for t in repository.thresholds()}[name] == 0.123
        repository.set_threshold(
            name,
            retake_below=DEFAULT_THRESHOLDS[0].retake_below,
            review_below=DEFAULT_THRESHOLDS[0].review_below,
        )


def test_two_ups_at_once_make_one_stack(stack_settings: Settings) -> None:
    ups = [command(stack_settings, "up") for _ in range(2)]
    outputs = [up.communicate() for up in ups]
    assert [up.returncode for up in ups] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert services.ui_address(stack_settings) in outputs[0][0]
    starts = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"server", "start", str(urlsplit(stack_settings.prefect()).port)}
        <= set(process.info["cmdline"] or ())
    ]
    assert len(starts) == 1


def test_killed_server_comes_back(broken: Farm) -> None:
    dead = broken.pid("server")
    assert dead
    os.kill(dead, signal.SIGKILL)
    await_that(lambda: broken.pid("server") not in (None, dead), "another server")
    await_that(lambda: services.healthy(broken.api), "the server to answer")
    workers = {name: broken.pid(name) for name in ("worker-cpu", "worker-gpu")}
    assert stack.up(broken.settings) == broken.api_url.removesuffix("/api")
    assert {name: broken.pid(name) for name in workers} == workers


def test_up_mends_a_half_dead_stack(broken: Farm) -> None:
    address = broken.api_url
    for name in ("supervisor", "worker-cpu", "server"):
        pid = broken.pid(name)
        assert pid
        os.kill(pid, signal.SIGKILL)
    stack.up(broken.settings)
    assert all(broken.pid(name) for name in NAMES)
    assert broken.api_url == address
    assert services.healthy(broken.api)


def test_down_leaves_no_process_and_up_continues(broken: Farm, tmp_path: Path) -> None:
    settings, note = broken.settings, tmp_path / "pids"
    nap = broken.deploy("tests/support/naps.py:nap", pool="gpu")
    run = broken.start(nap, path=str(note), seconds=120)
    await_that(note.exists, "the run to begin")
    sleeper = int(note.read_text())

    down = command(settings, "down")
    outputs = down.communicate()
    assert down.returncode == 0, outputs
    assert process_start_time(sleeper) is None
    assert not processes_of(settings)
    stack.down(settings)  # a second one finds nothing to do

    # Somebody else has our port when we come back.
    port = urlsplit(settings.prefect()).port
    with socket.create_server(("127.0.0.1", port or 0)):
        stack.up(settings)
    assert urlsplit(settings.prefect()).port != port
    with services.client(settings) as api:
        again = Farm(settings=settings, api=api)
        assert again.run(run)["state"]["type"] == "CRASHED"
        quick = again.wait(again.start(nap, path=str(note)))
        assert quick["state"]["type"] == "COMPLETED", quick["state"]


def test_nothing_runs_before_the_first_up(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "nowhere")
    stack.down(settings)
    assert not settings.home.exists()
    with pytest.raises(NotUpError, match="dreamontage up"):
        settings.prefect()
    with pytest.raises(NotUpError, match="DATABASE_URL"):
        settings.database()


def test_servers_of_your_own_that_do_not_answer_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    database = Settings(home=tmp_path, database_url=f"postgresql://127.0.0.1:{port}/film")
    with pytest.raises(stack.StackError, match=f"Postgres: .*{port}"):
        stack.up(database)


def test_stale_record_ends_no_stranger(tmp_path: Path) -> None:
    with subprocess.Popen(python("-c", "input()"), stdin=subprocess.PIPE) as stranger:
        service = Service(name="server", argv=(), home=tmp_path)
        service.record.parent.mkdir()
        born = process_start_time(stranger.pid)
        assert born
        record = {"pid": stranger.pid, "began": born - 60}
        service.record.write_text(json.dumps(record))
        assert service.pid() is None
        stop(service)
        assert not service.record.exists()
        assert process_start_time(stranger.pid) == born
        stranger.communicate(b"\n")


def test_stop_insists(tmp_path: Path) -> None:
    """Also on what the process has started, and also when it does not listen."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = f"{deaf} import time; print('deaf', flush=True); time.sleep(600)"
    parent = f"{deaf} import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    service = Service(name="deaf", argv=python("-c", parent), home=tmp_path)
    pid = service.start(os.environ)
    await_that(lambda: "deaf" in service.last_log_lines(), "the child to be deaf")
    family = [pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))]
    assert len(family) == 2
    stop(service, grace=0.5)
    assert [process_start_time(member) for member in family] == [None, None]
