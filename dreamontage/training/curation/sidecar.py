"""Captions written by people: a file beside the video, with its name.

`walk.txt` (or `walk.mp4.txt`) holds a prompt in our notation, "[0, 2] she stands; [2, 5] she
walks", in the video's own seconds, or plain text for the whole video. `walk.json` holds the same
under "prompts": such a text, or a list of {"start", "end", "text"}.

Time-stamped prompts define the actions, one caption each. With plain text, the actions are those of
the camera's measured moves, and the text is put before the caption of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from dreamontage.storyboard import prompt_syntax
from dreamontage.timeline import exact, frame_at
from dreamontage.training.synthetic.captions import Action

SUFFIXES = (".txt", ".json")


def find(video: Path) -> Path | None:
    """The video's sidecar; None if it has none."""
    names = (
        path
        for suffix in SUFFIXES
        for path in (video.with_suffix(suffix), Path(f"{video}{suffix}"))
    )
    return next((path for path in names if path.is_file()), None)


def read(sidecar: Path) -> str | list[tuple[Fraction, Fraction, str]]:
    """Plain text, or spans of start, end (seconds) and text.

    Raises ValueError, in one line, for a file that holds neither.
    """
    try:
        text = sidecar.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{sidecar.name}: is not UTF-8 text") from None
    spans: Sequence[Any] = []
    if sidecar.suffix == ".json":
        try:
            data = json.loads(text, parse_float=Decimal)
        except ValueError as error:
            raise ValueError(f"{sidecar.name}: is no JSON ({error})") from None
        data = data.get("prompts") if isinstance(data, dict) else data
        if isinstance(data, str):
            text = data
        elif isinstance(data, list):
            return _checked(sidecar, data)
        else:
            raise ValueError(f'{sidecar.name}: needs "prompts", a text or a list of spans')
    spans, problems = prompt_syntax.parse(text)
    if problems:
        raise ValueError(f"{sidecar.name}: {'; '.join(problems)}")
    if not spans:
        raise ValueError(f"{sidecar.name}: says nothing")
    if len(spans) == 1 and "start" not in spans[0]:
        return " ".join(str(spans[0]["text"]).split())
    return _checked(sidecar, spans)


def _checked(sidecar: Path, spans: Sequence[Any]) -> list[tuple[Fraction, Fraction, str]]:
    found: list[tuple[Fraction, Fraction, str]] = []
    for index, span in enumerate(spans):
        where = f"{sidecar.name}: prompts[{index}]"
        try:
            start, end, text = span["start"], span["end"], span["text"]
            begin, stop = exact(start), exact(end)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(f"{where} needs start and end, in seconds, and text") from None
        if not 0 <= begin < stop:
            raise ValueError(f"{where}: end = {end} must lie after start = {start}")
        if found and begin < found[-1][1]:
            raise ValueError(f"{where}: start = {start} lies within the span before it")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where} says nothing")
        found.append((begin, stop, " ".join(text.split())))
    if not found:
        raise ValueError(f"{sidecar.name}: holds no spans")
    return found


def captions_to_actions(
    captions: str | Sequence[tuple[Fraction, Fraction, str]] | None,
    measured: Sequence[Action],
    *,
    frames: int,
    fps: Fraction,
) -> list[Action]:
    """The actions of a film of `frames` frames: the sidecar's captions, else the measured ones."""
    if captions is None:
        return list(measured)
    if isinstance(captions, str):
        return [
            Action(start=each.start, stop=each.stop, text=f"{captions.rstrip('.')}, {each.text}")
            for each in measured
        ]
    spans = [
        Action(start=frame_at(begin, fps), stop=min(frame_at(stop, fps), frames), text=text)
        for begin, stop, text in captions
    ]
    inside = [each for each in spans if each.start < each.stop]
    if not inside:
        raise ValueError("the sidecar's spans all lie past the video's end")
    return inside
