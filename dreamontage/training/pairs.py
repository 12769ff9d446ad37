"""Preference pairs on disk: which of two films of the same prompt and conditions is the better one.

One JSON object a line, in a file of any name beside the films:

    {"prompt": "...", "winner": "007/b.mkv", "loser": "007/d.mkv", "judge": "cuts", "source": "A"}

DPO and the Bradley-Terry head read the same files, whoever judged: a discriminator, or people.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dreamontage.faults import Fault, show, show_path

MOST_TOLD = 20
"""Faults of one file that are told in full; of more, how many there are."""


class Pair(BaseModel):
    """winner, loser: a film, or latents (.safetensors), by its path from the pairs' file.
    conditions: what both were given, stored alike. margin: how much better the winner is, in the
    judge's own unit. source: A, pairs about abrupt cuts; B, about the motion of subjects.
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
    """All pairs of a file, in its order; blank lines are passed over.

    Raises ValueError with every fault of the file: its line, the field and the rule.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    pairs: list[Pair] = []
    faults: list[Fault] = []
    lines: dict[tuple[str, str], int] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            pair = Pair.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            faults.append(Fault(field=f"line {number}", message=f"is no JSON: {error.msg}"))
            continue
        except ValidationError as error:
            faults += (
                Fault(
                    field=f"line {number}: {show_path(each['loc'])}".rstrip(": "),
                    message=f"= {show(each['input'])}: {each['msg']}",
                )
                for each in error.errors()
            )
            continue
        faults += (fault.under(f"line {number}: ") for fault in _faults(pair, path.parent))
        key = (min(pair.winner, pair.loser), max(pair.winner, pair.loser))
        if key in lines:
            message = f"are the films of line {lines[key]}, too"
            faults.append(Fault(field=f"line {number}: winner, loser", message=message))
        lines.setdefault(key, number)
        pairs.append(pair)
    if not pairs and not faults:
        faults.append(Fault(field="", message="holds no pairs"))
    if faults:
        told = [f"{path}: {fault}" for fault in faults[:MOST_TOLD]]
        if len(faults) > MOST_TOLD:
            told.append(f"{path}: {len(faults) - MOST_TOLD} faults more")
        raise ValueError("\n".join(told))
    return pairs


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a file that `read_pairs` reads; whole, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(pair.model_dump_json(exclude_none=True) + "\n" for pair in pairs))
    partial.replace(path)


def _faults(pair: Pair, folder: Path) -> Iterator[Fault]:
    if pair.winner == pair.loser:
        yield Fault(field="loser", message=f"= {show(pair.loser)} is the winner itself")
    for name in ("winner", "loser", "conditions"):
        file = getattr(pair, name)
        if file is not None and not (folder / file).is_file():
            yield Fault(field=name, message=f"= {show(file)}: there is no such file")
