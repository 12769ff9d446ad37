"""YAML or JSON from a stranger, read safely: plain data, or one clear error.

Scalars follow YAML 1.2's core schema, of which JSON is a part. YAML 1.1, PyYAML's own, would
turn the title `no` into false, the time `1:30` into 90 and leave `1e3` a text. `<<` is a field's
name like any other: YAML 1.2 has no merge keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor

from dreamontage.storyboard.errors import FieldError, StoryboardError, show

MAX_BYTES = 1 << 20

_PREFIX = "tag:yaml.org,2002:"


# libyaml's parser, which is some ten times as fast as PyYAML's own. The composer stays PyYAML's:
# libyaml's binding composes nodes by recursion in C, and a file of 100,000 `[` ends the process;
# in Python it ends in a RecursionError.
class _Loader(Composer, yaml.CSafeLoader):
    # Not inherited: of YAML 1.1's tags, `!!timestamp`, `!!binary`, `!!set` and the like go.
    yaml_constructors: ClassVar[dict[str | None, Callable[..., Any]]] = {
        tag: SafeConstructor.yaml_constructors[tag]
        for tag in (f"{_PREFIX}map", f"{_PREFIX}seq", f"{_PREFIX}str")
    }

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self.problems: list[tuple[yaml.Mark, str]] = []

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise ConstructorError(None, None, "a mapping is expected", node.start_mark)
        found: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_PREFIX}str":
                self.problems.append((key.start_mark, "a field's name must be text"))
            elif key.value in found:
                problem = f"the field {show(key.value)} is given twice"
                self.problems.append((key.start_mark, problem))
            else:
                found[key.value] = self.construct_object(value, deep)
        return found


# Not inherited either: these are YAML 1.1's.
_Loader.yaml_implicit_resolvers = {}


def _unknown(loader: _Loader, node: yaml.Node) -> None:
    problem = f"could not determine a constructor for the tag {node.tag!r}"
    loader.problems.append((node.start_mark, problem))


_Loader.add_constructor(None, _unknown)


def _integer(text: str) -> int:
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return int(text)  # 010 is ten


def _number(text: str) -> float:
    # Infinity and nan have a dot before them in YAML, and none in Python.
    letters = text.lstrip("+-.")[:1].isalpha()
    return float(text.replace(".", "") if letters else text)


def _scalar(tag: str, pattern: str, first: Sequence[str], read: Callable[[str], object]) -> None:
    """Have a scalar of the core schema recognised by its pattern, with or without its tag."""
    matches = re.compile(rf"(?:{pattern})\Z")

    def construct(loader: _Loader, node: yaml.ScalarNode) -> object:
        text = loader.construct_scalar(node)
        if not matches.match(text):
            loader.problems.append((node.start_mark, f"{show(text)} is no {tag}"))
            return None
        return read(text)

    _Loader.add_implicit_resolver(f"{_PREFIX}{tag}", matches, first)
    _Loader.add_constructor(f"{_PREFIX}{tag}", construct)


_scalar("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None)
_scalar("bool", r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true")
_scalar("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer)
_scalar(
    "float",
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "-+0123456789.",
    _number,
)


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
    """The data of a text that came from `path`: JSON if its name says so, else YAML.

    Raises `StoryboardError`: with every field that is given twice and every unknown tag of a YAML
    text, by line and column, or with the first place that cannot be parsed.
    """
    try:
        if path.suffix.lower() == ".json":
            # YAML forbids the tabs that JSON may be indented with.
            return json.loads(text, object_pairs_hook=_unique_keys)
        loader = _Loader(text)
        data = loader.get_single_data()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: "
        raise _unreadable(path, f"{where}{error.msg[:1].lower()}{error.msg[1:]}") from None
    except _DuplicateKeyError as error:
        raise _unreadable(path, str(error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _where(mark) if mark else ""
        raise _unreadable(path, f"{where}{error.problem or error.context}") from None
    except (yaml.reader.ReaderError, UnicodeEncodeError) as error:
        raise _unreadable(path, f"holds a character that YAML forbids, {error.reason}") from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None
    except (ValueError, OverflowError):
        # An integer of thousands of digits, which Python refuses.
        raise _unreadable(path, "holds a number that is too long") from None
    if loader.problems:
        loader.problems.sort(key=lambda each: (each[0].line, each[0].column))
        raise StoryboardError(
            _fault(path, f"{_where(mark)}{text}") for mark, text in loader.problems
        )
    return data


def _where(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: "


class _DuplicateKeyError(Exception):
    """A field that is given twice in a JSON object."""


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _DuplicateKeyError(f"the field {show(name)} is given twice")
        found[name] = value
    return found


def _unreadable(path: Path, reason: str) -> StoryboardError:
    return StoryboardError([_fault(path, reason)])


def _fault(path: Path, reason: str) -> FieldError:
    return FieldError(field=path.name or str(path), message=reason)
