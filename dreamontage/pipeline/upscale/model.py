"""A super-resolution model as planning needs it, and the errors of a storyboard that it cannot
enlarge. Reads configs alone; imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dreamontage.families import check_class_name
from dreamontage.files import read_json
from dreamontage.models.folder import autoencoder_revision, folder_facts
from dreamontage.planning import loops
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.upscale_settings import Upscaler, channel_error
from dreamontage.storyboard import Storyboard
from dreamontage.storyboard.errors import FieldError


@dataclass(frozen=True, kw_only=True)
class SrModel:
    """What a super-resolution model's configs say.

    ``patch``: height and width, in latents, of one of its tokens. ``spatial_scale``: pixels to a
    latent, each way. ``settings``: its own part of an `Upscaler`. ``autoencoder``: equal for equal
    autoencoders, of folders or of loaded ones.
    """

    name: str
    channels: int
    z_dim: int
    patch: tuple[int, int]
    spatial_scale: int
    geometry: Geometry
    settings: Mapping[str, Any]
    autoencoder: str

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Raises `ValueError` naming the file that is missing or wrong, or its pipeline where that
        is not supported."""
        check_class_name(folder)
        facts = folder_facts(folder)
        transformer = read_json(folder / "transformer" / "config.json")
        vae = read_json(folder / "vae" / "config.json")
        return cls(
            name=str(folder),
            channels=transformer["in_channels"],
            z_dim=vae.get("z_dim", 16),
            patch=tuple(transformer["patch_size"][1:]),
            spatial_scale=vae.get("scale_factor_spatial", 8),
            geometry=Geometry.from_folder(folder),
            settings=facts.superres,
            autoencoder=autoencoder_revision(folder),
        )

    @property
    def multiple(self) -> tuple[int, int]:
        """What the heights and widths that it works at are multiples of, in pixels."""
        height, width = self.patch
        return height * self.spatial_scale, width * self.spatial_scale

    def upscaler(self, scale: float) -> Upscaler:
        """Its way to this scale.

        Raises:
            ValueError: if it is no SR model, or its settings do not fit each other.
        """
        if problem := channel_error(self.channels, z_dim=self.z_dim):
            raise ValueError(f"{self.name} is no super-resolution model: {problem}")
        upscaler = Upscaler.of(self.settings, scale=scale)
        upscaler.check(self.patch)
        return upscaler


def errors(board: Storyboard, sr: SrModel | None, *, autoencoder: str) -> list[FieldError]:
    """The errors of a storyboard that cannot be enlarged as it asks.

    Args:
        sr: the super-resolution model, if one is set.
        autoencoder: the base model's, as `SrModel` has it.
    """
    if board.upscale is None:
        return []

    def field_error(rule: str) -> FieldError:
        return FieldError(field="upscale", message=f"= {board.upscale:g}{rule}")

    if sr is None:
        return [
            field_error(
                " needs a super-resolution model, and none is set: give its folder with --sr, or "
                "to a farm as DREAMONTAGE_SR_WEIGHTS"
            )
        ]
    found = []
    try:
        sr.upscaler(board.upscale)
    except ValueError as error:
        found.append(field_error(f": {error}"))
    if sr.autoencoder != autoencoder:
        found.append(field_error(f": {sr.name} is for another autoencoder than the model's own"))
    for index, shot in enumerate(board.shots):
        frames = shot.frames(board.fps)
        if shot.loop and (problem := loops.loop_error(frames, sr.geometry)):
            rule = f"= {frames} frames, for the super-resolution model: {problem}"
            found.append(FieldError(field=f"shots[{index}].duration", message=rule))
    return found


def folder_errors(board: Storyboard, base: Path, sr: Path | None) -> list[FieldError]:
    """The same from the models' folders; one that cannot be read is a fault of ``upscale``."""
    if board.upscale is None or sr is None:
        return errors(board, None, autoencoder="")
    try:
        return errors(board, SrModel.from_folder(sr), autoencoder=autoencoder_revision(base))
    except ValueError as error:
        return [FieldError(field="upscale", message=f"= {board.upscale:g}: {error}")]
