"""The `dreamontage` command with the farm's packages installed."""

from flows.cli.commands import app, main

__all__ = ["app", "main"]
