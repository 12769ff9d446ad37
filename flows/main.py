"""The `dreamontage` command, also where only the library's packages are installed."""

import sys

from dreamontage.cli import app as library
from dreamontage.storyboard.errors import StoryboardError

_OURS = frozenset({"db", "dreamontage", "flows", "storage"})
_OF_THE_FARM = frozenset({"up", "down", "submit", "status", "fetch"})


def main() -> None:
    """The farm's command line if its packages are there, else the library's."""
    try:
        from flows.cli import main as farm
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise
    else:
        farm()
        return
    if _OF_THE_FARM & set(sys.argv[1:2]):
        sys.exit(
            f"error: `dreamontage {sys.argv[1]}` is the farm's, and {missing} is not installed: "
            "pip install 'dreamontage[studio]'"
        )
    try:
        library()
    except (StoryboardError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
