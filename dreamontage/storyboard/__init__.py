"""The input language: what a storyboard file may say, and what is wrong with one that says more."""

from dreamontage.storyboard.storyboard import (
    AUTO,
    DEFAULT_STRENGTH,
    Clip,
    Coarse,
    Keyframe,
    PromptSpan,
    Sampler,
    Shot,
    Size,
    Storyboard,
    check_clips,
    json_schema,
    load,
    loads,
    parse,
    readable,
)

__all__ = [
    "AUTO",
    "DEFAULT_STRENGTH",
    "Clip",
    "Coarse",
    "Keyframe",
    "PromptSpan",
    "Sampler",
    "Shot",
    "Size",
    "Storyboard",
    "check_clips",
    "json_schema",
    "load",
    "loads",
    "parse",
    "readable",
]
