"""Options of a command as one dataclass, for commands that have many."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, get_type_hints


def with_options(group: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a typer command take each field of a dataclass as an option.

    typer reads the command's signature. In it the parameter `options` is replaced by the fields of
    `group`, which are annotated as typer wants parameters to be.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(command, include_extras=True)
        own = inspect.signature(command).parameters
        added = get_type_hints(group, include_extras=True)
        parameters = [
            parameter.replace(annotation=hints[name])
            for name, parameter in own.items()
            if name != "options"
        ]
        for field in fields(group):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=added[field.name],
                )
            )

        @functools.wraps(command)
        def call(**given: Any) -> Any:
            options = group(**{field.name: given.pop(field.name) for field in fields(group)})
            return command(**given, options=options)

        del call.__wrapped__  # its signature would be read instead
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        return call

    return decorate
