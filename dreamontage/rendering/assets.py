"""A storyboard's files, opened: what `load` cannot know without reading pictures and films."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from dreamontage.media.probe import MediaInfo, MediaKind, probe
from dreamontage.storyboard import AUTO, Storyboard, rules, storyboard
from dreamontage.storyboard.errors import FieldError, show, show_seconds
from dreamontage.storyboard.validation import Readable

ClipSeconds = dict[tuple[int, int], Fraction]
# By path, relative to the storyboard's file: the file's facts, or what is wrong with it.
Known = dict[str, MediaInfo | str]


def inspect(
    board: Storyboard | Mapping[Any, Any], base: Path, known: Known | None = None
) -> tuple[ClipSeconds, list[FieldError]]:
    """Open every file of a storyboard: the clips' lengths, and what is wrong with any.

    Of one that is given as the data of its file, those are opened that can be read out of it, and
    its other errors are found as well. What is found goes into `known`; a file that is in
    there already is not opened again.
    """
    known = {} if known is None else known
    errors: list[FieldError] = []
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
            errors.append(FieldError(field=field, message=f"= {show(name)}: {found}"))
            return None
        if found.kind is not wanted:
            rule = f"= {show(name)} is of kind {found.kind}; it must be of kind {wanted}"
            errors.append(FieldError(field=field, message=rule))
            return None
        return found

    readable_board = storyboard.readable(board)
    for at, shot in enumerate(readable_board.get("shots") or []):
        if shot is None:
            continue
        path = f"shots[{at}]"
        if shot.get("draft") != AUTO:
            found = info(shot, "draft", MediaKind.VIDEO, path)
            if found is not None and found.duration is not None:
                errors += _too_short(
                    shot, readable_board.get("fps"), found.duration, f"{path}.draft"
                )
        for index, keyframe in enumerate(shot.get("keyframes") or []):
            if keyframe is not None:
                info(keyframe, "image", MediaKind.IMAGE, f"{path}.keyframes[{index}]")
        for index, clip in enumerate(shot.get("clips") or []):
            if clip is None:
                continue
            found = info(clip, "video", MediaKind.VIDEO, f"{path}.clips[{index}]")
            if found is not None and found.duration is not None:
                seconds[at, index] = found.duration
    return seconds, errors + storyboard.check_clips(board, seconds)


def _too_short(
    shot: Readable, fps: Fraction | None, seconds: Fraction, field: str
) -> list[FieldError]:
    """A draft that ends before its shot does, by more than rounding can explain."""
    duration, loop = shot.get("duration"), bool(shot.get("loop"))
    if fps is None or duration is None:
        return []
    length = rules.shot_frames(duration, fps, loop=loop) / fps
    slack = Fraction(5, 2) / fps if loop else 1 / fps
    if seconds >= length - slack:
        return []
    rule = f"= {show(shot.get('draft'))} lasts {show_seconds(seconds)}, and the shot "
    return [FieldError(field=field, message=f"{rule}{show_seconds(length)}")]
