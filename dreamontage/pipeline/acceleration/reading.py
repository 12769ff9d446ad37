"""Speed options as one writes them in a setting or on a command line.

    {attention: flash, step_cache: {first_block: {threshold: 0.08}}}

YAML or JSON; the outer braces may be left out. A step cache as it is by default is its name alone.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dreamontage.pipeline.acceleration.options import FirstBlock, Mag, SpeedOptions, TaylorSeer
from dreamontage.storyboard import yaml_loader
from dreamontage.storyboard.errors import StoryboardError, show

_CACHES: dict[str, type[FirstBlock | Mag | TaylorSeer]] = {
    "first_block": FirstBlock,
    "mag": Mag,
    "taylor_seer": TaylorSeer,
}


def parse(text: str) -> SpeedOptions:
    """The options of a text; none for an empty one.

    Raises:
        ValueError: for what cannot be read, an option that there is not, and as `SpeedOptions`.
    """
    braced = text if text.lstrip().startswith("{") else f"{{{text}}}"
    problem = f"{show(text)} cannot be read; write options as {{attention: native}}"
    try:
        data = yaml_loader.parse(braced, Path("speed options"))
    except StoryboardError as error:
        # Without the column, which counts the brace.
        reason = str(error).partition(": ")[2]
        raise ValueError(f"{problem}: {reason}" if reason else problem) from None
    if not isinstance(data, dict):
        raise ValueError(problem)
    if "step_cache" in data:
        data["step_cache"] = _cache(data["step_cache"])
    return _build(SpeedOptions, data, "")


def _cache(value: object) -> FirstBlock | Mag | TaylorSeer:
    named = {value: {}} if isinstance(value, str) else value
    if not isinstance(named, dict) or len(named) != 1 or not set(named) <= _CACHES.keys():
        raise ValueError(
            f"step_cache = {show(value)} must be one of {', '.join(_CACHES)}, "
            "or one of them with its settings, as in {first_block: {threshold: 0.08}}"
        )
    ((name, settings),) = named.items()
    return _build(_CACHES[name], settings or {}, "step_cache.")


def _build(kind: type[Any], data: object, path: str) -> Any:
    known = [field.name for field in fields(kind)]
    if not isinstance(data, dict):
        raise ValueError(f"{path.rstrip('.')} must hold settings: {', '.join(known)}")
    for name in data:
        if name not in known:
            raise ValueError(f"{path}{name} is no option; there are {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise ValueError("; ".join(_error_message(each, path) for each in error.errors())) from None


def _error_message(error: Any, path: str) -> str:
    """A type's fault by its field; a rule's, which names it itself, as it is."""
    message = str(error["msg"]).removeprefix("Value error, ")
    field = ".".join(map(str, error["loc"]))
    if not field:
        return message
    return f"{path}{field} = {show(error['input'])}: {message[:1].lower()}{message[1:]}"
