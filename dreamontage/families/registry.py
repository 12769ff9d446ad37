"""The families that there are, and which one a model's folder belongs to. Reads configs alone;
imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dreamontage.files import read_json
from dreamontage.models.folder import FolderFacts, folder_facts
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.upscale_settings import sr_channels
from dreamontage.sampling.conditioning.modes import ConditioningMode

CLASS_NAMES = ("DreaMontagePipeline", "WanImageToVideoPipeline", "WanPipeline")
"""``_class_name`` of the folders that can be loaded."""


class Takes(StrEnum):
    """Where in a shot a family takes a kind of condition."""

    NOWHERE = "nowhere"
    ANYWHERE = "anywhere"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What all models of a family have in common.

    ``has_tail``: whether a segment can begin with the latents of the one before, so that a shot
        may be longer than the window.
    """

    name: str
    mode: ConditioningMode
    stills: Takes
    clips: Takes
    has_tail: bool


WAN_CHANNELS = Family(
    name="Wan image-to-video",
    mode=ConditioningMode.CHANNELS,
    stills=Takes.ANYWHERE,
    clips=Takes.ANYWHERE,
    has_tail=True,
)
WAN_TI2V = Family(
    name="Wan text-and-image-to-video",
    mode=ConditioningMode.CLEAN_LATENTS,
    stills=Takes.ANYWHERE,
    clips=Takes.ANYWHERE,
    has_tail=True,
)
WAN_TEXT = Family(
    name="Wan text-to-video",
    mode=ConditioningMode.TEXT_ONLY,
    stills=Takes.NOWHERE,
    clips=Takes.NOWHERE,
    has_tail=False,
)
WAN_SR = Family(
    name="Wan super-resolution",
    mode=ConditioningMode.CHANNELS,
    stills=Takes.ANYWHERE,
    clips=Takes.ANYWHERE,
    has_tail=True,
)


@dataclass(frozen=True, kw_only=True)
class FamilyFacts:
    """What a folder says of its model: family, windows and defaults."""

    family: Family
    geometry: Geometry
    defaults: FolderFacts


def check_class_name(folder: Path) -> None:
    """Refuse a folder of a pipeline that is not known: parts of it would be dropped in silence.

    Raises:
        ValueError: naming the pipeline and those that are known, or the file that is missing.
    """
    _check(folder, read_json(folder / "model_index.json"))


def of_folder(folder: Path) -> FamilyFacts:
    """The family and the facts of a model's folder, without loading the model.

    Raises:
        ValueError: as `check_class_name`; or naming another file that is missing or wrong.
    """
    index = read_json(folder / "model_index.json")
    _check(folder, index)
    transformer = read_json(folder / "transformer" / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    return FamilyFacts(
        family=_family(index, in_channels=transformer["in_channels"], z_dim=vae.get("z_dim", 16)),
        geometry=Geometry.from_folder(folder),
        defaults=folder_facts(folder),
    )


def _check(folder: Path, index: Mapping[str, Any]) -> None:
    name = index.get("_class_name")
    if name not in CLASS_NAMES:
        raise ValueError(
            f"{folder}: model_index.json is of a {name or 'pipeline without a name'}, which is not "
            f"supported; the pipelines that are: {', '.join(CLASS_NAMES)}"
        )


def _family(index: Mapping[str, Any], *, in_channels: int, z_dim: int) -> Family:
    if in_channels == sr_channels(z_dim):
        return WAN_SR
    mode = ConditioningMode.from_config(
        in_channels=in_channels,
        z_dim=z_dim,
        expand_timesteps=index.get("expand_timesteps", False),
    )
    by_mode = {each.mode: each for each in (WAN_CHANNELS, WAN_TI2V, WAN_TEXT)}
    return by_mode[mode]
