"""A storyboard's files, opened: what `load` cannot know without reading pictures and films."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from dreamontage import checks, reading, storyboard
from dreamontage.faults import Fault, StoryboardError, show, show_seconds
from dreamontage.media.probe import MediaInfo, MediaKind, probe
from dreamontage.schema import Readable
from dreamontage.storyboard import AUTO, Storyboard

ClipSeconds = dict[tuple[int, int], Fraction]
# By path, relative to the storyboard's file: the file's facts, or what is wrong with it.
Known = dict[str, MediaInfo | str]


def examine(path: Path, known: Known | None = None) -> tuple[Storyboard, ClipSeconds]:
    """A storyboard's file and the lengths of its clips' files, by (shot, clip), in seconds.

    Raises `StoryboardError` with every fault of the storyboard and of its files.
    """
    data = reading.read(path)
    board, faults = storyboard.parse(data, path.parent)
    seconds: ClipSeconds = {}
    if isinstance(data, Mapping):
        seconds, found = inspect(data, path.parent, known)
        # A file that is not there, or a clash that is seen without it, has been told already.
        told = {fault.field for fault in faults}
        faults += [fault for fault in found if fault.field not in told]
    if board is None or faults:
        raise StoryboardError(sorted(faults, key=Fault.place))
    return board, seconds


def inspect(
    board: Storyboard | Mapping[Any, Any], base: Path, known: Known | None = None
) -> tuple[ClipSeconds, list[Fault]]:
    """Open every file of a storyboard: the clips' lengths, and what is wrong with any.

    Of one that is given as the data of its file, those are opened that can be read out of it, and
    what else is wrong with it is told as well. What is found goes into `known`; a file that is in
    there already is not opened again.
    """
    known = {} if known is None else known
    faults: list[Fault] = []
    seconds: ClipSeconds = {}

    def info(part: Readable, key: str, wanted: MediaKind, path: str) -> MediaInfo | None:
        name = part.get(key)
        if name is None:
            return None
        if name not in known:
            try:
                known[name] = probe(base / name)
            except ValueError as error:
                known[name] = str(error).removeprefix(f"{base / name}: ")
        found = known[name]
        field = f"{path}.{key}"
        if isinstance(found, str):
            faults.append(Fault(field=field, message=f"= {show(name)}: {found}"))
            return None
        if found.kind is not wanted:
            rule = f"= {show(name)} is of kind {found.kind}; it must be of kind {wanted}"
            faults.append(Fault(field=field, message=rule))
            return None
        return found

    whole = storyboard.readable(board)
    for at, shot in enumerate(whole.get("shots") or []):
        if shot is None:
            continue
        path = f"shots[{at}]"
        if shot.get("draft") != AUTO:
            found = info(shot, "draft", MediaKind.VIDEO, path)
            if found is not None and found.duration is not None:
                faults += _too_short(shot, whole.get("fps"), found.duration, f"{path}.draft")
        for index, keyframe in enumerate(shot.get("keyframes") or []):
            if keyframe is not None:
                info(keyframe, "image", MediaKind.IMAGE, f"{path}.keyframes[{index}]")
        for index, clip in enumerate(shot.get("clips") or []):
            if clip is None:
                continue
            found = info(clip, "video", MediaKind.VIDEO, f"{path}.clips[{index}]")
            if found is not None and found.duration is not None:
                seconds[at, index] = found.duration
    return seconds, faults + storyboard.check_clips(board, seconds)


def _too_short(shot: Readable, fps: Fraction | None, seconds: Fraction, field: str) -> list[Fault]:
    """A draft that ends before its shot does, by more than rounding can explain."""
    duration, loop = shot.get("duration"), bool(shot.get("loop"))
    if fps is None or duration is None:
        return []
    length = checks.shot_frames(duration, fps, loop=loop) / fps
    slack = Fraction(5, 2) / fps if loop else 1 / fps
    if seconds >= length - slack:
        return []
    rule = f"= {show(shot.get('draft'))} lasts {show_seconds(seconds)}, and the shot "
    return [Fault(field=field, message=f"{rule}{show_seconds(length)}")]
