"""Mutation tests of the core: ``python -m bench.mutants [planning keys conditioning ...]``.

For each area, mutmut changes the code in one place at a time and runs the area's tests against each
change, in a copy of the tree. A mutant that no test catches shows a behaviour that no test holds.
Prints the share of caught mutants, and the survivors as diffs. docs/mutants.md names those that are
left, and why. Run again, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from db import migrate
from db.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "mutants"

# What tests and conftest read beside the packages.
DATA = ("weights", "examples", "bench", "docs", "prefect.yaml", "README.md")
CAUGHT = frozenset({"killed", "timeout", "segfault", "caught by type check"})


@dataclass(frozen=True, kw_only=True)
class Area:
    """Files that are mutated, as patterns, and the tests that have to catch the mutants."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    postgres: bool = False


AREAS = {
    "planning": Area(
        files=tuple(
            f"dreamontage/planning/{name}.py"
            for name in ("coarse", "cost", "draft_window", "geometry", "loops", "segments")
        ),
        tests=(
            *("tests/test_plan.py", "tests/test_cost.py", "tests/test_loop_plan.py"),
            *("tests/test_draft_keys.py", "tests/test_segment_keys.py"),
            *("tests/test_planning_edges.py", "tests/test_coarse_plan.py"),
        ),
    ),
    "keys": Area(
        files=("dreamontage/planning/keys.py", "dreamontage/planning/segment_keys.py"),
        tests=("tests/test_keys.py", "tests/test_segment_keys.py", "tests/test_coarse_keys.py"),
    ),
    "conditioning": Area(
        files=("dreamontage/sampling/conditioning/*.py",),
        tests=(
            *("tests/test_conditioning.py", "tests/test_feed.py", "tests/test_pictures.py"),
            *("tests/test_native.py", "tests/test_loop_film.py"),
        ),
    ),
    "gate": Area(files=("dreamontage/scorer/gate.py",), tests=("tests/test_scorer_gate.py",)),
    "leases": Area(
        files=("db/leases.py",),
        tests=("tests/test_db_leases.py", "tests/test_db_lease_machine.py"),
        postgres=True,
    ),
    "storage": Area(
        files=("storage/*.py",),
        tests=("tests/test_storage.py", "tests/test_storage_s3.py", "tests/test_storage_killed.py"),
    ),
}


def prepare(name: str) -> Path:
    """A copy of the tree with mutmut's settings for the area. An existing copy is updated and keeps
    its results."""
    area, folder = AREAS[name], WORK / name
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for each in filter(None, names.split("\0")):
        source, target = ROOT / each, folder / each
        if source.is_file() and not each.startswith("build/"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
                shutil.copy2(source, target)
    settings = {
        "source_paths": ["dreamontage", "flows", "db", "storage"],
        "only_mutate": list(area.files),
        "also_copy": list(DATA),
        "pytest_add_cli_args": ["-q", "-x", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [
            each for each in area.tests if (ROOT / each).exists()
        ],
        "process_isolation": "fork",
    }
    lines = [f"{key} = {value!r}" for key, value in settings.items()]
    text = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(text + "\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    return folder


@contextmanager
def shared_postgres() -> Iterator[None]:
    """One cluster for the tests of all mutants, since starting one takes longer than the tests."""
    with tempfile.TemporaryDirectory(prefix="dreamontage-mutants-") as folder:
        os.chmod(folder, 0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", fsync_off=True)
        server.start()
        try:
            migrate.upgrade(server.createdb("migrated"))
            os.environ["DREAMONTAGE_TEST_POSTGRES"] = str(server.folder)
            yield
        finally:
            os.environ.pop("DREAMONTAGE_TEST_POSTGRES", None)
            server.delete()


def mutmut(folder: Path, *arguments: str, quiet: bool = False) -> str:
    """Run mutmut in the area's copy; returns what it printed, if ``quiet``."""
    # Forked workers must not meet threads of torch.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE if quiet else None,
        text=True,
    )
    return done.stdout if quiet else ""


def results(folder: Path) -> dict[str, str]:
    """Every mutant by its name, and what became of it: killed, survived, no tests, timeout, …"""
    found = {}
    for line in mutmut(folder, "results", "--all", "true", quiet=True).splitlines():
        name, separator, outcome = line.strip().rpartition(": ")
        if separator:
            found[name] = outcome
    return found


def show(console: Console, found: dict[str, dict[str, str]]) -> None:
    shown = Table("area", "mutants", "caught", "share", "survived", "without a test", "not run")
    for area, outcomes in found.items():
        counts = Counter(outcomes.values())
        caught = sum(counts[each] for each in CAUGHT)
        run = len(outcomes) - counts["not checked"]
        shown.add_row(
            area,
            str(len(outcomes)),
            str(caught),
            f"{caught / run:.1%}" if run else "-",
            str(counts["survived"]),
            str(counts["no tests"]),
            str(counts["not checked"]),
        )
    console.print(shown)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("areas", nargs="*", choices=(*AREAS, "all"), default="all")
    parser.add_argument("--children", type=int, default=2, help="mutants that run side by side")
    parser.add_argument("--report", action="store_true", help="print earlier results, run nothing")
    options = parser.parse_args(arguments)
    areas = list(AREAS) if "all" in options.areas else options.areas
    console, found = Console(width=110), {}
    for area in areas:
        folder = WORK / area if options.report else prepare(area)
        if not options.report:
            with shared_postgres() if AREAS[area].postgres else nullcontext():
                mutmut(folder, "run", "--max-children", str(options.children))
        found[area] = results(folder)
        for name, outcome in found[area].items():
            if outcome in ("survived", "no tests", "suspicious"):
                console.rule(f"{name}: {outcome}", align="left")
                console.print(mutmut(folder, "show", name, quiet=True), markup=False)
    show(console, found)


if __name__ == "__main__":
    main()
