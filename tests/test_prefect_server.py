"""Prefect's server, really started: what prefect.yaml registers, and what operators see."""

import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from PIL import Image

from flows.studio.processes import python
from flows.studio.services import POOLS, ui_address, worker_environment
from flows.studio.settings import REPOSITORY
from flows.studio.stack import DEPLOYMENTS, PREFECT_YAML
from tests.support.farm import Farm, await_that

pytestmark = pytest.mark.xdist_group("farm")

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")


def deployments(farm: Farm) -> dict[str, Any]:
    question = {"deployments": {"name": {"any_": DEPLOYMENTS}}}
    found = farm.post("/deployments/filter", question)
    assert len(found) == len(DEPLOYMENTS), "each deployment once"
    return {deployment["name"]: deployment for deployment in found}


def test_ui_answers(farm: Farm) -> None:
    page = farm.api.get(ui_address(farm.settings) + "/")
    assert page.is_success
    assert "text/html" in page.headers["content-type"]
    assert "<script" in page.text


def test_ui_asks_nobody_else(farm: Farm) -> None:
    settings = farm.api.get(ui_address(farm.settings) + "/ui-settings").json()
    assert settings["api_url"] == farm.api_url
    assert farm.get("/admin/settings")["server"]["analytics_enabled"] is False


def test_pools_hold_their_limits(farm: Farm) -> None:
    pools = {pool["name"]: pool for pool in farm.post("/work_pools/filter", {})}
    assert {name: pools[name]["concurrency_limit"] for name in POOLS} == POOLS


def test_deployments_are_those_of_the_file(farm: Farm) -> None:
    written = yaml.safe_load(PREFECT_YAML.read_text())["deployments"]
    found = deployments(farm)
    assert {each["name"] for each in written} == set(DEPLOYMENTS)
    for each in written:
        assert found[each["name"]]["entrypoint"] == each["entrypoint"]
        assert found[each["name"]]["work_pool_name"] == each["work_pool"]["name"]
    assert found["render-shot"]["parameter_openapi_schema"]["required"] == ["shot_id"]


def test_prefect_deploy_registers_the_file_as_it_is(farm: Farm) -> None:
    before = deployments(farm)
    for deployment in before.values():
        farm.api.delete(f"/deployments/{deployment['id']}").raise_for_status()
    result = subprocess.run(
        python("-m", "prefect", "deploy", "--all"),
        cwd=REPOSITORY,
        env=worker_environment(farm.settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    after = deployments(farm)
    assert after["nightly"]["id"] != before["nightly"]["id"]
    assert len(after["nightly"]["schedules"]) == 1


def test_night_has_its_runs(farm: Farm) -> None:
    nightly = deployments(farm)["nightly"]
    question = {"deployments": {"id": {"any_": [nightly["id"]]}}}
    runs = await_that(
        lambda: found if len(found := farm.post("/flow_runs/filter", question)) >= 3 else None,
        "the nightly deployment to get its runs",
    )
    times = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
    assert {(time.hour, time.minute) for time in times} == {(2, 0)}
    assert max(Counter(time.date() for time in times).values()) == 1, "one run a night"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to take the picture")
def test_picture_of_the_ui(farm: Farm, tmp_path: Path) -> None:
    assert CHROMIUM
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars "
        f"--virtual-time-budget=15000 --window-size=1280,800 --user-data-dir={tmp_path / 'profile'}"
    )
    picture = tmp_path / "ui.png"
    address = ui_address(farm.settings) + "/deployments"
    shot = (CHROMIUM, *flags.split(), f"--screenshot={picture}", address)
    subprocess.run(shot, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        assert image.size == (1280, 800)
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours
    # The page before its scripts have run has one colour, or a spinner's few.
    assert len(colours) > 200, f"a blank page: {len(colours)} colours"
