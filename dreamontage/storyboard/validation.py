"""Pydantic's verdict on a file, in our words, and what can be read of a file that it refuses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from dreamontage.storyboard.errors import FieldError, show, show_path

_KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "model_type": "a mapping of fields",
    "dict_type": "a mapping",
    "string_unicode": "text of valid Unicode",
    "finite_number": "a finite number",
}


@dataclass(frozen=True, kw_only=True)
class Readable:
    """The fields of one part of a file that are right by themselves, and those that are given."""

    values: Mapping[str, Any]
    set_fields: frozenset[str]

    def get(self, field: str) -> Any:
        return self.values.get(field)


def field_errors(error: ValidationError, model: type[BaseModel]) -> list[FieldError]:
    """Every error as a fault of ours."""
    errors: list[FieldError] = []
    for entry in error.errors(include_url=False):
        path = show_path(entry["loc"])
        if entry["type"] == "too_short" and entry["input"]:
            continue  # pydantic counts only the entries that are right
        if entry["type"] == "extra_forbidden":
            messages = [_unknown(entry["loc"], model)]
        elif entry["type"] == "notation":
            messages = list(entry["ctx"]["all"])
        else:
            messages = [_sentence(entry["type"], entry.get("ctx", {}), entry["input"], entry)]
        errors += [
            FieldError(field=path or f"the {model.__name__.lower()}", message=text)
            for text in messages
        ]
    return sorted(errors, key=FieldError.sort_key)


def _sentence(
    kind: str, context: Mapping[str, Any], value: object, entry: Mapping[str, Any]
) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, not {show(value)}"
    if kind == "literal_error":
        return f"= {show(value)} must be one of {context['expected']}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "too_long":
        length = context["actual_length"]
        return f"has {length} entries; at most {context['max_length']} are allowed"
    if kind == "string_too_long":
        return f"has {len(str(value))} characters; at most {context['max_length']} are allowed"
    limits = {
        "greater_than_equal": ("at least", "ge"),
        "greater_than": ("more than", "gt"),
        "less_than_equal": ("at most", "le"),
        "less_than": ("less than", "lt"),
        "multiple_of": ("a multiple of", "multiple_of"),
    }
    if kind in limits:
        words, bound = limits[kind]
        return f"= {show(value)} must be {words} {context[bound]}"
    return f"= {show(value)}: {entry['msg'][:1].lower()}{entry['msg'][1:]}"


def _unknown(loc: tuple[str | int, ...], model: type[BaseModel]) -> str:
    """The message for a field that there is not, with the one that may have been meant."""
    part = model
    for step in loc[:-1]:
        if isinstance(step, str):
            part = _part_of(part, step) or part
    return _no_field(part, str(loc[-1]))


@lru_cache(maxsize=256)
def _no_field(part: type[BaseModel], field: str) -> str:
    names = [info.alias or name for name, info in part.model_fields.items()]
    close = difflib.get_close_matches(field, names, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}"
    noun = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part.__name__).lower()
    return f"is no field of a {noun}; {hint}"


@cache
def _part_of(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """The model of a field that holds one, or a tuple of them."""
    annotation: Any = model.model_fields[field].annotation
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def readable(model: type[BaseModel], data: Mapping[Any, Any]) -> Readable:
    """What of a part of a file is right by itself, whatever is wrong beside it."""
    values: dict[str, Any] = {}
    set_fields = set()
    for name, info in model.model_fields.items():
        raw = data.get(info.alias or name)
        if raw is None:
            values[name] = info.default if not info.is_required() else None
            continue
        set_fields.add(name)
        part = _part_of(model, name)
        if part is not None and get_origin(info.annotation) is tuple:
            values[name] = _entries(part, info, raw)
        else:
            values[name] = _value(model, name, raw)
    return Readable(values=values, set_fields=frozenset(set_fields))


def _entries(part: type[BaseModel], info: FieldInfo, raw: object) -> list[Readable | None]:
    for step in info.metadata:
        if isinstance(step, BeforeValidator):
            try:
                raw = step.func(raw)  # type: ignore[call-arg]
            except ValueError:
                return []
    entries = raw if isinstance(raw, list | tuple) else []
    return [readable(part, entry) if isinstance(entry, Mapping) else None for entry in entries]


@cache
def _adapter(model: type[BaseModel], field: str) -> TypeAdapter[Any]:
    info = model.model_fields[field]
    annotation: Any = info.annotation
    if info.metadata:
        annotation = Annotated.__class_getitem__((annotation, *info.metadata))  # type: ignore[attr-defined]
    return TypeAdapter(annotation)


def _value(model: type[BaseModel], field: str, raw: object) -> Any:
    try:
        return _adapter(model, field).validate_python(raw)
    except ValidationError:
        return None
