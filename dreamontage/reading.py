"""YAML or JSON from a stranger, read safely: plain data, or one clear fault.

Scalars follow YAML 1.2's core schema, of which JSON is a part. YAML 1.1, PyYAML's own, would
turn the title `no` into false, the time `1:30` into 90 and leave `1e3` a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dreamontage.faults import Fault, StoryboardError, show

MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    # Not inherited: these are YAML 1.1's.
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(
                    None, None, "a field's name must be text", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {show(key.value)} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first)
    )


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # PyYAML's own would read 010 as eight.
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def read(path: Path) -> object:
    """The data of a file. Raises `StoryboardError` when there is none to be had."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise _unreadable(path, f"is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"is not UTF-8 text, from byte {error.start} on") from None
    return parse(text, path)


def parse(text: str, path: Path) -> object:
    """The data of a text that came from `path`."""
    try:
        if path.suffix.lower() == ".json":
            # YAML forbids the tabs that JSON may be indented with.
            return json.loads(text, object_pairs_hook=_once)
        return yaml.load(text, _Loader)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: "
        raise _unreadable(path, f"{where}{error.msg[:1].lower()}{error.msg[1:]}") from None
    except _TwiceError as error:
        raise _unreadable(path, str(error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _unreadable(path, f"{where}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise _unreadable(path, f"holds a character that YAML forbids, {error.reason}") from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None
    except (ValueError, OverflowError):
        # An integer of thousands of digits, which Python refuses.
        raise _unreadable(path, "holds a number that is too long") from None


class _TwiceError(Exception):
    """A field that stands twice in a JSON object."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(f"the field {show(name)} stands twice")
        found[name] = value
    return found


def _unreadable(path: Path, reason: str) -> StoryboardError:
    return StoryboardError([Fault(field=path.name or str(path), message=reason)])
