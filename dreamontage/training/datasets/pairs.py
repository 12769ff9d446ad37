"""Preference pairs on disk: which of two films with the same prompt and conditions is better.

One JSON object per line, in a file of any name beside the films:

    {"prompt": "...", "winner": "007/b.mkv", "loser": "007/d.mkv", "judge": "cuts", "source": "A"}

DPO and the Bradley-Terry head read the same files, judged by a discriminator or by people.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dreamontage.files import write_text
from dreamontage.storyboard.errors import FieldError, show, show_path

MAX_REPORTED = 20
"""How many errors of one file are reported in full; the rest is only counted."""


class Pair(BaseModel):
    """Two films and which one is better.

    winner, loser: a film, or latents (.safetensors), as a path relative to the pairs' file.
    conditions: the conditions of both, stored in the same way. margin: how much better the winner
    is, in the judge's own unit. source: A, pairs about abrupt cuts; B, about the motion of
    subjects.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    winner: str = Field(min_length=1)
    loser: str = Field(min_length=1)
    judge: str = Field(min_length=1)
    source: Literal["A", "B"]
    conditions: str | None = None
    margin: float | None = Field(default=None, ge=0, allow_inf_nan=False)


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a file, in its order; blank lines are skipped.

    Raises ValueError with all errors in the file: line, field and rule of each.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    pairs: list[Pair] = []
    errors: list[FieldError] = []
    lines: dict[tuple[str, str], int] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            pair = Pair.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            errors.append(FieldError(field=f"line {number}", message=f"is no JSON: {error.msg}"))
            continue
        except ValidationError as error:
            errors += (
                FieldError(
                    field=f"line {number}: {show_path(each['loc'])}".rstrip(": "),
                    message=f"= {show(each['input'])}: {each['msg']}",
                )
                for each in error.errors()
            )
            continue
        errors += (
            field_error.prefixed(f"line {number}: ")
            for field_error in _pair_errors(pair, path.parent)
        )
        key = (min(pair.winner, pair.loser), max(pair.winner, pair.loser))
        if key in lines:
            message = f"are the films of line {lines[key]}, too"
            errors.append(FieldError(field=f"line {number}: winner, loser", message=message))
        lines.setdefault(key, number)
        pairs.append(pair)
    if not pairs and not errors:
        errors.append(FieldError(field="", message="holds no pairs"))
    if errors:
        messages = [f"{path}: {field_error}" for field_error in errors[:MAX_REPORTED]]
        if len(errors) > MAX_REPORTED:
            messages.append(f"{path}: {len(errors) - MAX_REPORTED} more errors")
        raise ValueError("\n".join(messages))
    return pairs


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a file for `read_pairs`, whole or not at all."""
    lines = (pair.model_dump_json(exclude_none=True) + "\n" for pair in pairs)
    write_text(path, "".join(lines))


def _pair_errors(pair: Pair, folder: Path) -> Iterator[FieldError]:
    if pair.winner == pair.loser:
        yield FieldError(field="loser", message=f"= {show(pair.loser)} is the winner itself")
    for name in ("winner", "loser", "conditions"):
        file = getattr(pair, name)
        if file is not None and not (folder / file).is_file():
            yield FieldError(field=name, message=f"= {show(file)}: there is no such file")
