"""A storyboard's assets, taken in: probed, checked against the shots, normalised to the film.

Everything that can be wrong with a file is found here, before any expensive work. What comes out
are renditions: each condition's picture or clip at the film's size and rate, in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from dreamontage import media
from dreamontage.assets import ClipSeconds, inspect
from dreamontage.faults import Fault, StoryboardError, show
from dreamontage.keys import file_digest as file_digest
from dreamontage.plan import Placed, placed
from dreamontage.storyboard import Shot, Storyboard


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
    """A condition's."""

    shot: int
    placed: Placed


def condition_label(placed: Placed, fps: Fraction) -> str:
    """What a person calls a condition: "keyframe 1.5 s", "clip 2.0-3.5 s"."""
    start = float(placed.frame / fps)
    if placed.kind == "keyframe":
        return f"keyframe {start:.1f} s"
    return f"clip {start:.1f}-{float(placed.stop / fps):.1f} s"


def take_in(
    board: Storyboard,
    base: Path,
    folder: Path,
    *,
    progress: Callable[[str], None] = lambda asset: None,
) -> list[Rendition]:
    """Write every condition's rendition into ``folder``; in order of shots, keyframes, clips.

    Args:
        base: the folder that the storyboard's paths are relative to.
        progress: told each asset's path as it is about to be normalised.

    Raises:
        StoryboardError: with every asset that cannot be used, and every clip that does not fit
            its shot.
    """
    seconds, faults = inspect(board, base)
    if faults:
        raise StoryboardError(faults)
    renditions: list[Rendition] = []
    for index, shot in enumerate(board.shots):
        try:
            renditions += _render_shot(board, index, shot, base, folder, seconds, progress)
        except StoryboardError as error:
            faults += error.faults
    if faults:
        raise StoryboardError(faults)
    return renditions


def take_in_drafts(
    board: Storyboard,
    base: Path,
    folder: Path,
    *,
    progress: Callable[[str], None] = lambda asset: None,
) -> dict[int, Ingested]:
    """Write the renditions of the videos that shots are drafted from, by shot.

    After `take_in`, which has told what is wrong with the files at first sight.

    Raises:
        StoryboardError: with every video that cannot be used after all.
    """
    faults: list[Fault] = []
    made: dict[int, Ingested] = {}
    for index, shot in enumerate(board.shots):
        if shot.animatic is None:
            continue
        asset, out = base / shot.animatic, folder / f"shot{index}-draft.mkv"
        seconds = media.probe(asset).duration
        assert seconds is not None
        progress(shot.animatic)
        try:
            made[index] = _render_clip(
                board, asset, out, fit="crop", end=min(seconds, shot.frames(board.fps) / board.fps)
            )
        except ValueError as error:
            faults.append(_fault(f"shots[{index}].draft", shot.animatic, asset, error))
    if faults:
        raise StoryboardError(faults)
    return made


def _render_clip(
    board: Storyboard,
    asset: Path,
    out: Path,
    *,
    fit: media.Fit,
    start: Fraction = Fraction(0),
    end: Fraction,
) -> Ingested:
    width, height, fps = board.size.width, board.size.height, board.fps
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
    width, height, fps = board.size.width, board.size.height, board.fps
    faults: list[Fault] = []
    made: list[tuple[Path, Path, Mapping[str, str | int | float]]] = []
    clip_frames: dict[int, int] = {}
    for index, keyframe in enumerate(shot.keyframes):
        spec = {"fit": keyframe.fit, "width": width, "height": height}
        asset, out = base / keyframe.image, folder / f"shot{shot_index}-keyframe{index}.png"
        field = f"shots[{shot_index}].keyframes[{index}].image"
        progress(keyframe.image)
        try:
            media.ingest_image(asset, width=width, height=height, fit=keyframe.fit, out=out)
        except ValueError as error:
            faults.append(_fault(field, keyframe.image, asset, error))
            continue
        made.append((asset, out, spec))
    for index, clip in enumerate(shot.clips):
        asset, out = base / clip.video, folder / f"shot{shot_index}-clip{index}.mkv"
        field = f"shots[{shot_index}].clips[{index}].video"
        # What lies past the shot's end is never seen: an hour's recording is not taken in whole.
        room = (shot.frames(fps) - shot.frame_of(clip, fps)) / fps
        end = min(seconds[shot_index, index] if clip.out is None else clip.out, clip.in_ + room)
        progress(clip.video)
        try:
            cut = _render_clip(board, asset, out, fit=clip.fit, start=clip.in_, end=end)
        except ValueError as error:
            faults.append(_fault(field, clip.video, asset, error))
            continue
        clip_frames[index] = media.frame_count(out)
        made.append((asset, out, cut.spec))
    if faults:
        raise StoryboardError(faults)
    return [
        Rendition(shot=shot_index, placed=each, asset=asset, path=out, spec=spec)
        for each, (asset, out, spec) in zip(placed(shot, fps, clip_frames), made, strict=True)
    ]


def _fault(field: str, name: str, asset: Path, error: ValueError) -> Fault:
    return Fault(field=field, message=f"= {show(name)}: {str(error).removeprefix(f'{asset}: ')}")


def of_shot(renditions: Sequence[Rendition], shot: int) -> list[Rendition]:
    return [rendition for rendition in renditions if rendition.shot == shot]
