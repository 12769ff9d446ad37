"""A storyboard's assets, taken in: probed, checked against the shots, normalised to the film.

Everything that can be wrong with a file is found here, before any expensive work. What comes out
are renditions: each condition's picture or clip at the film's size and rate, in a folder; of a film
that is enlarged, at the target's size as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from dreamontage import media
from dreamontage.digests import file_digest
from dreamontage.planning.segments import placed
from dreamontage.rendering.assets import ClipSeconds, Known, inspect
from dreamontage.storyboard import Shot, Size, Storyboard
from dreamontage.storyboard.errors import FieldError, StoryboardError, show
from dreamontage.storyboard.placement import Placed


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """A picture or a video as the model sees it. ``spec`` says how it was made from ``asset``."""

    asset: Path
    path: Path
    spec: Mapping[str, str | int | float]

    @property
    def digest(self) -> str:
        """sha256 of the rendition: what enters a segment's key."""
        return file_digest(self.path)


@dataclass(frozen=True, kw_only=True)
class Rendition(Ingested):
    """A condition's. ``target`` is the same in the target's size, if the film is enlarged."""

    shot: int
    placed: Placed
    target: Ingested | None = None

    @property
    def delivered(self) -> Ingested:
        """As the delivered film is to have it."""
        return self if self.target is None else self.target


def ingest_conditions(
    board: Storyboard,
    base: Path,
    folder: Path,
    *,
    known: Known | None = None,
    progress: Callable[[str], None] = lambda asset: None,
) -> list[Rendition]:
    """Write every condition's rendition into ``folder``; in order of shots, keyframes, clips.

    Args:
        base: the folder that the storyboard's paths are relative to.
        known: what was found in the files before; those are not probed again.
        progress: called with each asset's path before it is normalised.

    Raises:
        StoryboardError: with every asset that cannot be used, and every clip that does not fit
            its shot.
    """
    seconds, errors = inspect(board, base, known)
    if errors:
        raise StoryboardError(errors)
    renditions: list[Rendition] = []
    for index, shot in enumerate(board.shots):
        try:
            renditions += _render_shot(board, index, shot, base, folder, seconds, progress)
        except StoryboardError as error:
            errors += error.errors
    if errors:
        raise StoryboardError(errors)
    return renditions


def ingest_drafts(
    board: Storyboard,
    base: Path,
    folder: Path,
    *,
    known: Known | None = None,
    progress: Callable[[str], None] = lambda asset: None,
) -> dict[int, Ingested]:
    """Write the renditions of the videos that shots are drafted from, by shot.

    To be called after `ingest_conditions`, which reports what a first look at the files finds.

    Raises:
        StoryboardError: with every video that cannot be used after all.
    """
    errors: list[FieldError] = []
    made: dict[int, Ingested] = {}
    for index, shot in enumerate(board.shots):
        if shot.animatic is None:
            continue
        asset, out = base / shot.animatic, folder / f"shot{index}-draft.mkv"
        info = (known or {}).get(shot.animatic) or media.probe(asset)
        assert not isinstance(info, str), "an asset with an error is not ingested"
        seconds = info.duration
        assert seconds is not None
        progress(shot.animatic)
        try:
            made[index] = _render_clip(
                asset,
                out,
                fit="crop",
                size=board.size,
                fps=board.fps,
                end=min(seconds, shot.frames(board.fps) / board.fps),
            )
        except ValueError as error:
            errors.append(_field_error(f"shots[{index}].draft", shot.animatic, asset, error))
    if errors:
        raise StoryboardError(errors)
    return made


def _render_still(asset: Path, out: Path, *, fit: media.Fit, size: Size) -> Ingested:
    media.ingest_image(asset, width=size.width, height=size.height, fit=fit, out=out)
    spec = {"fit": fit, "width": size.width, "height": size.height}
    return Ingested(asset=asset, path=out, spec=spec)


def _render_clip(
    asset: Path,
    out: Path,
    *,
    fit: media.Fit,
    size: Size,
    fps: Fraction,
    start: Fraction = Fraction(0),
    end: Fraction,
) -> Ingested:
    width, height = size.width, size.height
    media.ingest_clip(
        asset, width=width, height=height, fps=fps, fit=fit, start=start, end=end, out=out
    )
    spec: dict[str, str | int | float] = {
        "fit": fit,
        "width": width,
        "height": height,
        "fps": str(fps),
        "in": float(start),
        "out": float(end),
    }
    return Ingested(asset=asset, path=out, spec=spec)


def _render_shot(
    board: Storyboard,
    shot_index: int,
    shot: Shot,
    base: Path,
    folder: Path,
    seconds: ClipSeconds,
    progress: Callable[[str], None],
) -> list[Rendition]:
    fps = board.fps
    errors: list[FieldError] = []
    made: list[list[Ingested]] = []
    clip_frames: dict[int, int] = {}
    sizes = {"": board.size} | ({} if board.upscale is None else {"-target": board.target})
    for index, keyframe in enumerate(shot.keyframes):
        asset, name = base / keyframe.image, f"shot{shot_index}-keyframe{index}"
        field = f"shots[{shot_index}].keyframes[{index}].image"
        progress(keyframe.image)
        try:
            made.append(
                [
                    _render_still(asset, folder / f"{name}{mark}.png", fit=keyframe.fit, size=size)
                    for mark, size in sizes.items()
                ]
            )
        except ValueError as error:
            errors.append(_field_error(field, keyframe.image, asset, error))
    for index, clip in enumerate(shot.clips):
        asset, name = base / clip.video, f"shot{shot_index}-clip{index}"
        field = f"shots[{shot_index}].clips[{index}].video"
        # What lies past the shot's end is never seen: an hour's recording is not taken in whole.
        room = (shot.frames(fps) - shot.frame_of(clip, fps)) / fps
        end = min(seconds[shot_index, index] if clip.out is None else clip.out, clip.in_ + room)
        progress(clip.video)
        try:
            cuts = [
                _render_clip(
                    asset,
                    folder / f"{name}{mark}.mkv",
                    fit=clip.fit,
                    size=size,
                    fps=fps,
                    start=clip.in_,
                    end=end,
                )
                for mark, size in sizes.items()
            ]
        except ValueError as error:
            errors.append(_field_error(field, clip.video, asset, error))
            continue
        clip_frames[index] = media.frame_count(cuts[0].path)
        made.append(cuts)
    if errors:
        raise StoryboardError(errors)
    return [
        Rendition(shot=shot_index, placed=each, **vars(own), target=next(iter(larger), None))
        for each, (own, *larger) in zip(placed(shot, fps, clip_frames), made, strict=True)
    ]


def _field_error(field: str, name: str, asset: Path, error: ValueError) -> FieldError:
    return FieldError(
        field=field, message=f"= {show(name)}: {str(error).removeprefix(f'{asset}: ')}"
    )


def of_shot(renditions: Sequence[Rendition], shot: int) -> list[Rendition]:
    return [rendition for rendition in renditions if rendition.shot == shot]
