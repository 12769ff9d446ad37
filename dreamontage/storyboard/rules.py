"""The rules between a storyboard's fields, checked on whatever of it can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path

from dreamontage import timeline
from dreamontage.storyboard.errors import FieldError, show, show_seconds
from dreamontage.storyboard.placement import Placed, clashes, loop_end_error, on_loop_end
from dreamontage.storyboard.types import MAX_SHOT_SECONDS, Frames
from dreamontage.storyboard.validation import Readable

# Whether there is a file of that name beside the storyboard.
Exists = Callable[[str], bool]


def shot_frames(duration: Fraction | Frames, fps: Fraction, *, loop: bool) -> int:
    """A shot's length in frames; a duration in seconds goes to the nearest that the shot can have.

    A loop that is given in frames must have a multiple of four: `_Shot` says so.
    """
    if isinstance(duration, Frames):
        return duration.frames
    return timeline.loop_frames(duration * fps) if loop else timeline.frame_at(duration, fps)


def shot_end(duration: Fraction | Frames, fps: Fraction) -> Fraction:
    """The time at which a shot ends, as it was written."""
    if isinstance(duration, Frames):
        return timeline.seconds_at(duration.frames, fps)
    return duration


def shot_name(name: str | None, index: int) -> str:
    return name if name is not None else f"shot-{index + 1}"


def condition_frame(
    at: Fraction | None, frame: int | None, frames: int, fps: Fraction
) -> int | None:
    """The frame at a condition's time, the last one for the shot's end; None without either."""
    if frame is not None or at is None:
        return frame
    return min(timeline.frame_at(at, fps), frames - 1)


def check(
    board: Readable,
    base: Path | None,
    clip_seconds: Mapping[tuple[int, int], Fraction] | None = None,
) -> list[FieldError]:
    """Every broken rule. With the lengths of the clips' files, by (shot, clip), theirs too."""
    shots: list[Readable | None] = board.get("shots") or []
    # One look at a file, however many conditions (by aliases, some ten thousand) name it.
    exists = cache(lambda name: _is_file(base / name)) if base is not None else None
    errors = list(_names(shots))
    for index, shot in enumerate(shots):
        if shot is not None:
            lengths = {clip: v for (at, clip), v in (clip_seconds or {}).items() if at == index}
            errors += _Shot(f"shots[{index}]", shot, board.get("fps"), lengths).errors(exists)
    return errors


def _names(shots: list[Readable | None]) -> Iterator[FieldError]:
    # Files are named for shots, and some file systems do not tell cases apart.
    seen: dict[str, int] = {}
    for index, shot in enumerate(shots):
        if shot is None or ("name" in shot.set_fields and shot.get("name") is None):
            continue
        name = shot_name(shot.get("name"), index)
        other = seen.setdefault(name.lower(), index)
        if other != index:
            rule = f"= {show(name)} is also the name of shots[{other}]"
            yield FieldError(field=f"shots[{index}].name", message=rule)


class _Shot:
    """One shot's fields, of which any may be unknown."""

    def __init__(
        self,
        path: str,
        shot: Readable,
        fps: Fraction | None,
        clip_seconds: Mapping[int, Fraction],
    ) -> None:
        self.path = path
        self.shot = shot
        self.fps = fps
        self.clip_seconds = clip_seconds
        self.duration: Fraction | Frames | None = shot.get("duration")
        self.loop: bool = shot.get("loop") or False
        self.frames: int | None = None
        self.end = self.duration if isinstance(self.duration, Fraction) else None
        if fps is not None and self.duration is not None:
            self.frames = shot_frames(self.duration, fps, loop=self.loop)
            self.end = shot_end(self.duration, fps)

    def errors(self, exists: Exists | None) -> Iterator[FieldError]:
        if self.frames == 0:
            least = "what a loop can have" if self.loop else "half a frame"
            rule = f"= {show_seconds(self.end or Fraction(0))} is shorter than {least}"
            yield FieldError(field=f"{self.path}.duration", message=rule)
            self.frames = self.end = None
        elif isinstance(self.duration, Frames) and self.end and self.end > MAX_SHOT_SECONDS:
            rule = (
                f"= {self.duration.frames} frames, {show_seconds(self.end)}, "
                f"is longer than a shot may be, {MAX_SHOT_SECONDS} s"
            )
            yield FieldError(field=f"{self.path}.duration", message=rule)
        elif isinstance(self.duration, Frames) and self.loop:
            frames, stride = self.duration.frames, timeline.TEMPORAL_STRIDE
            if frames % stride:
                below = frames // stride * stride
                near = " or ".join(str(each) for each in (below, below + stride) if each)
                rule = f"= {frames} frames: a loop has a multiple of {stride}, such as {near}"
                yield FieldError(field=f"{self.path}.duration", message=rule)
                self.frames = self.end = None
        yield from self._draft(exists)
        yield from self._prompts()
        names: list[str] = []
        placed: list[Placed] = []
        for kind in ("keyframe", "clip"):
            for index, condition in enumerate(self.shot.get(f"{kind}s") or []):
                if condition is None:
                    continue
                path = f"{self.path}.{kind}s[{index}]"
                own = list(self._place(condition, kind))
                if kind == "clip":
                    own += self._cut(condition, self.clip_seconds.get(index))
                own += _missing(condition, "image" if kind == "keyframe" else "video", exists)
                yield from (field_error.prefixed(path) for field_error in own)
                position = self._placed(condition, kind, len(names), self.clip_seconds.get(index))
                if position is not None and not own:
                    placed.append(position)
                names.append(f"{path}.{'at' if condition.get('frame') is None else 'frame'}")
        for clash in clashes(placed):
            other = names[clash.other.index].rpartition(".")[0]
            field = names[clash.condition.index]
            yield FieldError(field=field, message=f"{clash.reason} {other}")
        if self.loop and self.frames:
            for each in on_loop_end(placed, self.frames):
                yield FieldError(field=names[each.index], message=loop_end_error(each, self.frames))

    def _draft(self, exists: Exists | None) -> Iterator[FieldError]:
        draft, strength = self.shot.get("draft"), self.shot.get("strength")
        if strength is not None and "draft" not in self.shot.set_fields:
            rule = f"= {show(strength)} is for a draft; give one, as in `draft: auto`"
            yield FieldError(field=f"{self.path}.strength", message=rule)
        if draft == "auto":
            if not (self.shot.get("keyframes") or self.shot.get("clips")):
                rule = "= 'auto' needs a keyframe or a clip to make a draft of"
                yield FieldError(field=f"{self.path}.draft", message=rule)
        elif draft is not None:
            yield from (
                field_error.prefixed(self.path)
                for field_error in _missing(self.shot, "draft", exists)
            )

    def _prompts(self) -> Iterator[FieldError]:
        before, named = Fraction(0), ""
        for index, span in enumerate(self.shot.get("prompts") or []):
            if span is None:
                continue
            path = f"{self.path}.prompts[{index}]"
            start, end = span.get("start"), span.get("end")
            if end is not None and self.end is not None and end > self.end:
                rule = f"= {show_seconds(end)} lies past the shot's end, {show_seconds(self.end)}"
                yield FieldError(field=f"{path}.end", message=rule)
            elif start is not None and self.end is not None and start >= self.end:
                rule = f"= {show_seconds(start)} lies past the shot's end, {show_seconds(self.end)}"
                yield FieldError(field=f"{path}.start", message=rule)
            end = end if "end" in span.set_fields else self.end
            if start is None or end is None:
                continue
            if end <= start:
                rule = f"= {show_seconds(end)} must lie after start, {show_seconds(start)}"
                if "end" in span.set_fields:
                    yield FieldError(field=f"{path}.end", message=rule)
            elif self.fps and timeline.frame_at(start, self.fps) == timeline.frame_at(
                end, self.fps
            ):
                rule = f"from {show_seconds(start)} to {show_seconds(end)} holds for no frame"
                yield FieldError(field=path, message=rule)
            if start < before:
                rule = f"= {show_seconds(start)} lies before the end of {named}, "
                yield FieldError(field=f"{path}.start", message=rule + show_seconds(before))
            if end > before:
                before, named = end, path

    def _place(self, condition: Readable, kind: str) -> Iterator[FieldError]:
        at, frame = condition.get("at"), condition.get("frame")
        place_fields = condition.set_fields & {"at", "frame"}
        if len(place_fields) == 2:
            yield FieldError(field="", message="has both `at` and `frame`; give one")
        elif not place_fields:
            yield FieldError(field="", message="needs a place: `at`, in seconds, or `frame`")
        if at is not None and self.end is not None:
            rule = f"= {show_seconds(at)} lies past the shot's end, {show_seconds(self.end)}"
            if at > self.end:
                yield FieldError(field=".at", message=rule)
            elif at == self.end and self.loop:
                rule = f"= {show_seconds(at)} is the loop's end, which is its first frame: give 0"
                yield FieldError(field=".at", message=rule)
            elif at == self.end and kind == "clip":
                rule = f"= {show_seconds(at)} is the shot's end: nothing of the clip would be seen"
                yield FieldError(field=".at", message=rule)
        if frame is not None and self.frames is not None and frame >= self.frames:
            rule = f"= {frame} lies past the shot's last frame, {self.frames - 1}"
            yield FieldError(field=".frame", message=rule)

    def _cut(self, clip: Readable, seconds: Fraction | None) -> Iterator[FieldError]:
        """A clip's `in` and `out`, against each other, the file's length and the shot's end."""
        first, out = clip.get("in_"), clip.get("out")
        slack = Fraction(1, 2) / self.fps if self.fps else Fraction(0)
        if first is None:
            return
        if seconds is not None and first >= seconds:
            rule = f"= {show_seconds(first)} lies past the video's end, {show_seconds(seconds)}"
            yield FieldError(field=".in", message=rule)
        if out is None:
            return
        if out <= first:
            rule = f"= {show_seconds(out)} must lie after in, {show_seconds(first)}"
            yield FieldError(field=".out", message=rule)
            return
        if self.fps and timeline.frame_at(out - first, self.fps) == 0:
            rule = f"= {show_seconds(out)} leaves less than half a frame after in"
            yield FieldError(field=".out", message=rule)
        # A file's length is a whole number of its own frames, which need not be ours.
        if seconds is not None and out > seconds + slack:
            rule = f"= {show_seconds(out)} lies past the video's end, {show_seconds(seconds)}"
            yield FieldError(field=".out", message=rule)
        at = clip.get("at")
        if at is None and clip.get("frame") is not None and self.fps:
            at = timeline.seconds_at(clip.get("frame"), self.fps)
        if at is not None and self.end is not None and at < self.end < at + out - first:
            rule = (
                f"= {show_seconds(out)}: the clip runs to {show_seconds(at + out - first)}, "
                f"past the shot's end, {show_seconds(self.end)}; "
                "leave `out` out to use what fits"
            )
            yield FieldError(field=".out", message=rule)

    def _placed(
        self, condition: Readable, kind: str, index: int, seconds: Fraction | None
    ) -> Placed | None:
        if self.fps is None or self.duration is None or self.frames is None:
            return None
        at, frame = condition.get("at"), condition.get("frame")
        first = condition_frame(at, frame, self.frames, self.fps)
        if first is None or first >= self.frames:
            return None
        if kind == "keyframe":
            return Placed(index=index, kind="keyframe", frame=first, frames=1)
        return Placed(
            index=index,
            kind="clip",
            frame=first,
            frames=self._clip_frames(condition, seconds, self.frames - first),
        )

    def _clip_frames(self, clip: Readable, seconds: Fraction | None, room: int) -> int:
        """How many frames a clip takes; one where its end cannot be known yet."""
        first, out = clip.get("in_"), clip.get("out")
        stop = out if out is not None else seconds
        if first is None or stop is None or self.fps is None:
            return 1
        return max(1, min(timeline.frame_at(stop - first, self.fps), room))


def _missing(condition: Readable, field: str, exists: Exists | None) -> Iterator[FieldError]:
    name = condition.get(field)
    if exists is not None and name is not None and not exists(name):
        yield FieldError(field=f".{field}", message=f"= {show(name)}: there is no such file")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system, a folder that may not be read
        return False
