"""Variants: one storyboard, many films, by overrides on the paths of its fields.

    variants:                      # each by hand
      - name: uk-square
        set: {size: 96x96, "shots[0].keyframes[1].image": assets/uk.png}
    axes:                          # and, or instead, every choice of one with every of another
      market:
        uk: {"shots[0].keyframes[1].image": assets/uk.png}
        de: {"shots[0].keyframes[1].image": assets/de.png}
      format:
        wide: {size: 128x80}
        tall: {size: 80x128}

The axes above give `uk-wide`, `uk-tall`, `de-wide` and `de-tall`. A path reads as faults name
fields; asset paths in overrides are relative to the storyboard's file. An override replaces a
field or fills one that was left out; a list's entry must be there.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dreamontage.storyboard import storyboard, types, validation, yaml_loader
from dreamontage.storyboard.errors import FieldError, StoryboardError, show
from dreamontage.storyboard.storyboard import Storyboard

MAX_VARIANTS = 1000

_STEP = re.compile(r"(?:^|(?<!^)\.)([A-Za-z_]\w*)|\[(0|[1-9][0-9]{0,8})\]")

Name = Annotated[str, Field(strict=True), BeforeValidator(types.read_name)]
Overrides = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VariantEntry(_Part):
    """A variant written by hand."""

    name: Name
    set: Overrides


class Matrix(_Part):
    """A file of variants."""

    variants: Annotated[tuple[VariantEntry, ...], Field(max_length=MAX_VARIANTS)] = ()
    axes: dict[Name, Annotated[dict[Name, Overrides], Field(min_length=1)]] = {}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A name, and what it sets: values by the paths of a storyboard's fields."""

    name: str
    overrides: Mapping[str, Any]


def load_matrix(path: Path) -> list[Variant]:
    """The variants of a file, those by hand first. Raises `StoryboardError` with all its faults."""
    try:
        matrix = Matrix.model_validate(yaml_loader.read(path))
    except ValidationError as error:
        raise StoryboardError(validation.field_errors(error, Matrix)) from None
    count = len(matrix.variants) + (math.prod(map(len, matrix.axes.values())) if matrix.axes else 0)
    if not 1 <= count <= MAX_VARIANTS:
        rule = f"has {count} variants; there must be 1 to {MAX_VARIANTS}"
        raise StoryboardError([FieldError(field=path.name, message=rule)])
    found = [Variant(name=entry.name, overrides=entry.set) for entry in matrix.variants]
    errors: list[FieldError] = []
    for choice in itertools.product(*(axis.items() for axis in matrix.axes.values())):
        if choice:
            name = "-".join(label for label, _ in choice)
            errors += _duplicate_errors(name, [overrides for _, overrides in choice])
            found.append(Variant(name=name, overrides=_merged(choice)))
    names: set[str] = set()
    for variant in found:
        if variant.name.lower() in names:
            errors.append(FieldError(field=variant.name, message="is the name of two variants"))
        names.add(variant.name.lower())
    if errors:
        raise StoryboardError(dict.fromkeys(errors))
    return found


def _merged(choice: Sequence[tuple[str, Overrides]]) -> Overrides:
    return {path: value for _, overrides in choice for path, value in overrides.items()}


def _duplicate_errors(name: str, parts: Sequence[Overrides]) -> list[FieldError]:
    counts = Counter(path for part in parts for path in part)
    duplicates = [path for path, count in counts.items() if count > 1]
    return [
        FieldError(field=f"{name}: {path}", message="is set by two axes") for path in duplicates
    ]


def apply(data: Mapping[str, Any], variant: Variant, base: Path | None) -> Storyboard:
    """A variant of a storyboard, which is given as the data that `storyboard.loads` takes.

    Raises `StoryboardError`, each fault under the variant's name.
    """
    return apply_all(data, [variant], base)[0]


def apply_all(
    data: Mapping[str, Any], variants: Sequence[Variant], base: Path | None
) -> list[Storyboard]:
    """Every variant of a storyboard, in order; every fault of every variant in one error."""
    plain = storyboard.loads(data, base).model_dump(mode="json")
    boards: list[Storyboard] = []
    errors: list[FieldError] = []
    for variant in variants:
        changed = copy.deepcopy(plain)
        own = _overlaps(variant.overrides)
        for path, value in variant.overrides.items():
            problem = _set(changed, path, value)
            own += [FieldError(field=path, message=problem)] if problem else []
        if not own:
            board, own = storyboard.parse(changed, base)
            boards += [board] if board else []
        errors += [field_error.prefixed(f"{variant.name}: ") for field_error in own]
    if errors:
        raise StoryboardError(errors)
    return boards


def _overlaps(overrides: Mapping[str, Any]) -> list[FieldError]:
    """Paths of which one lies inside another: which of them would win is nobody's guess."""
    return [
        FieldError(field=path, message=f"lies inside {path[:cut]}, which is set as well")
        for path in overrides
        for cut, letter in enumerate(path)
        if letter in ".[" and path[:cut] in overrides
    ]


def _set(data: dict[str, Any], path: str, value: object) -> str:
    """Set one field in place. Returns the rule that forbids it, "" when it is set."""
    steps = [int(match[2]) if match[2] else match[1] for match in _STEP.finditer(path)]
    if not steps or _STEP.sub("", path):
        return "is no path of a field, such as shots[0].duration"
    target: Any = data
    for at, step in enumerate(steps):
        last = at == len(steps) - 1
        if isinstance(step, int):
            if not isinstance(target, list):
                return f"cannot be set: {show(target)} has no entries"
            if step >= len(target):
                return f"cannot be set: entry {step} is past the list's last, {len(target) - 1}"
        elif not isinstance(target, dict):
            return f"cannot be set: {show(target)} has no field {show(step)}"
        if last:
            target[step] = copy.deepcopy(value)
        elif isinstance(step, str) and target.get(step) is None:
            return f"cannot be set: the storyboard has no {show(step)} there"
        else:
            target = target[step]
    return ""
