"""A storyboard that asks for `upscale`, rendered in this process: its film, its record, its plan,
and what is told of one that cannot be.
"""

from __future__ import annotations
