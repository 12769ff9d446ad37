"""A storyboard's files, opened: what `load` cannot know without reading pictures and films."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from dreamontage import reading, storyboard
from dreamontage.faults import Fault, StoryboardError, show, show_seconds
from dreamontage.media.probe import MediaInfo, MediaKind, probe
from dreamontage.storyboard import Shot, Storyboard

ClipSeconds = dict[tuple[int, int], Fraction]
# By path, relative to the storyboard's file: the file's facts, or what is wrong with it.
Known = dict[str, MediaInfo | str]


def examine(path: Path) -> tuple[Storyboard, ClipSeconds]:
    """A storyboard's file and the lengths of its clips' files, by (shot, clip), in seconds.

    Raises `StoryboardError` with every fault of the storyboard and of its files.
    """
    board, faults = storyboard.parse(reading.read(path), path.parent)
    seconds: ClipSeconds = {}
    if board is not None:
        seconds, found = inspect(board, path.parent)
        # A file that is not there, or a clash that is seen without it, has been told already.
        told = {fault.field for fault in faults}
        faults += [fault for fault in found if fault.field not in told]
    if board is None or faults:
        raise StoryboardError(sorted(faults, key=Fault.place))
    return board, seconds


def inspect(
    board: Storyboard, base: Path, known: Known | None = None
) -> tuple[ClipSeconds, list[Fault]]:
    """Open every file of a storyboard: the clips' lengths, and what is wrong with any.

    What is found goes into `known`; a file that is in there already is not opened again.
    """
    known = {} if known is None else known
    faults: list[Fault] = []
    seconds: ClipSeconds = {}

    def info(name: str, wanted: MediaKind, field: str) -> MediaInfo | None:
        if name not in known:
            try:
                known[name] = probe(base / name)
            except ValueError as error:
                known[name] = str(error)
        found = known[name]
        if isinstance(found, str):
            faults.append(Fault(field=field, message=f"= {show(name)}: {found}"))
            return None
        if found.kind is not wanted:
            rule = f"= {show(name)} is of kind {found.kind}; it must be of kind {wanted}"
            faults.append(Fault(field=field, message=rule))
            return None
        return found

    for at, shot in enumerate(board.shots):
        if shot.animatic is not None:
            field = f"shots[{at}].draft"
            found = info(shot.animatic, MediaKind.VIDEO, field)
            if found is not None and found.duration is not None:
                faults += _too_short(shot, board.fps, found.duration, field)
        for index, keyframe in enumerate(shot.keyframes):
            info(keyframe.image, MediaKind.IMAGE, f"shots[{at}].keyframes[{index}].image")
        for index, clip in enumerate(shot.clips):
            found = info(clip.video, MediaKind.VIDEO, f"shots[{at}].clips[{index}].video")
            if found is not None and found.duration is not None:
                seconds[at, index] = found.duration
    return seconds, faults + storyboard.check_clips(board, seconds)


def _too_short(shot: Shot, fps: Fraction, seconds: Fraction, field: str) -> list[Fault]:
    """A draft that ends before its shot does, by more than rounding can explain."""
    length = shot.frames(fps) / fps
    slack = Fraction(5, 2) / fps if shot.loop else 1 / fps
    if seconds >= length - slack:
        return []
    rule = f"= {show(shot.animatic)} lasts {show_seconds(seconds)}, and the shot "
    return [Fault(field=field, message=f"{rule}{show_seconds(length)}")]
