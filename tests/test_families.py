"""Families: which one a model's folder belongs to, before anything of it is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dreamontage import DreaMontagePipeline
from dreamontage.families import Takes, of_folder
from dreamontage.families.registry import WAN_CHANNELS, WAN_SR, WAN_TEXT, WAN_TI2V, Family


@pytest.mark.parametrize(
    ("folder", "family"),
    [
        ("tiny_ours", WAN_CHANNELS),
        ("tiny_i2v", WAN_CHANNELS),
        ("tiny_a14b", WAN_CHANNELS),
        ("tiny_flf2v", WAN_CHANNELS),
        ("tiny_ti2v", WAN_TI2V),
        ("tiny_t2v", WAN_TEXT),
        ("tiny_sr", WAN_SR),
    ],
)
def test_a_folder_says_its_family(
    request: pytest.FixtureRequest, folder: str, family: Family
) -> None:
    facts = of_folder(request.getfixturevalue(folder))
    assert facts.family is family


def test_a_familys_facts_are_those_of_the_loaded_model(tiny_ours: Path) -> None:
    facts, pipe = of_folder(tiny_ours), DreaMontagePipeline.from_pretrained(tiny_ours)
    assert facts.geometry == pipe.geometry
    assert facts.defaults.default_steps == pipe.sampler().steps
    assert pipe.track([], 32, 48).mode is facts.family.mode
    assert (WAN_TEXT.stills, WAN_TEXT.has_tail) == (Takes.NOWHERE, False)


def renamed(folder: Path, to: Path, **index: Any) -> Path:
    """A copy whose index says something else, and whose weights cannot be read."""
    shutil.copytree(folder, to)
    file = to / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | index))
    for weights in to.rglob("*.safetensors"):
        weights.write_bytes(b"rubbish")
    return to


@pytest.mark.parametrize("name", ["WanVACEPipeline", "LTXPipeline"])
def test_another_pipelines_folder_is_refused_by_name_before_it_is_loaded(
    tiny_t2v: Path, tmp_path: Path, name: str
) -> None:
    """A control branch, for example, would be dropped in silence."""
    folder = renamed(tiny_t2v, tmp_path / "other", _class_name=name)
    message = (
        f"model_index.json is of a {name}, which is not supported; the pipelines that are: "
        "DreaMontagePipeline, WanImageToVideoPipeline, WanPipeline"
    )
    for read in (of_folder, DreaMontagePipeline.from_pretrained):
        with pytest.raises(ValueError, match=message):
            read(folder)
    with pytest.raises(ValueError, match="of a pipeline without a name"):
        of_folder(renamed(tiny_t2v, tmp_path / "unnamed", _class_name=None))
    with pytest.raises(ValueError, match=r"model_index\.json: No such file"):
        of_folder(tmp_path / "nowhere")


def test_a_family_is_found_without_torch(tiny_ours: Path) -> None:
    """Who plans reads a folder's facts, and need not load a model for that."""
    code = (
        "import sys, pathlib; from dreamontage.families import of_folder\n"
        "print(of_folder(pathlib.Path(sys.argv[1])).family.name)\n"
        "print(*{'torch', 'diffusers'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tiny_ours], capture_output=True, text=True, check=True
    )
    assert found.stdout.split("\n")[:2] == ["Wan image-to-video", ""]
