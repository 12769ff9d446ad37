"""One module a model family: what it takes, and how it is called.

``registry`` reads a model's folder and picks its family; it imports no torch.
"""

from __future__ import annotations

from dreamontage.families.registry import (
    Family,
    FamilyFacts,
    Takes,
    check_class_name,
    of_folder,
)

__all__ = ["Family", "FamilyFacts", "Takes", "check_class_name", "of_folder"]
