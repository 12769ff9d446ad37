"""What a wheel carries beside its packages: files that a clone has at its top.

Everything else about the build is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
# Where an installed package looks for them: see dreamontage/models/bundled.py.
CARRIED = {"prefect.yaml": "flows/prefect.yaml", "weights": "dreamontage/weights"}


class BuildWithCarried(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the clone itself is what is installed
        for source, target in self._carried():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        carried = [] if self.editable_mode else [str(target) for _, target in self._carried()]
        return [*super().get_outputs(include_bytecode), *carried]

    def _carried(self) -> list[tuple[Path, Path]]:
        return [
            (file, Path(self.build_lib) / place / file.relative_to(HERE / name))
            if (HERE / name).is_dir()
            else (file, Path(self.build_lib) / place)
            for name, place in CARRIED.items()
            for file in sorted([HERE / name, *(HERE / name).rglob("*")])
            if file.is_file() and not file.name.startswith(".")
        ]


setup(cmdclass={"build_py": BuildWithCarried})
