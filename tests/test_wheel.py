"""A wheel carries all that the farm needs: installed, it runs far from any clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from dreamontage.models import bundled
from flows.studio import stack
from flows.studio.processes import python
from flows.studio.settings import REPOSITORY, Settings
from tests.support.farm import end

PARTS = ("dreamontage", "flows", "db", "storage", "weights")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "prefect.yaml")


def test_a_clone_uses_its_own() -> None:
    assert bundled.weights("nano") == REPOSITORY / "weights" / "nano"
    assert stack.PREFECT_YAML == REPOSITORY / "prefect.yaml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, unpacked as an installer does."""
    clone, site = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("site")
    for part in PARTS:
        unwanted = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(REPOSITORY / part, clone / part, ignore=unwanted)
    for file in FILES:
        shutil.copy(REPOSITORY / file, clone)
    command = ("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "dist")
    subprocess.run(python(*command), cwd=clone, check=True, capture_output=True)
    (wheel,) = (clone / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


@pytest.mark.slow
def test_an_installed_studio_renders_far_from_a_clone(installed: Path, tmp_path: Path) -> None:
    """Slow: it builds a wheel, and starts a studio of its own from it."""
    assert (installed / "dreamontage" / "weights" / "nano" / "model_index.json").is_file()
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    home = tmp_path / "home"
    environment = os.environ | {"PYTHONPATH": str(installed), "DREAMONTAGE_HOME": str(home)}

    def dreamontage(*arguments: str) -> str:
        done = subprocess.run(
            python("-m", "flows.cli", *arguments),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        assert "Prefect UI: " in dreamontage("up")
        dreamontage("submit", "examples/last-frame.yaml", "--out", "out")
        assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".mp4", ".png", ".json"}
    finally:
        dreamontage("down")
        end(Settings(home=home))
