"""From a window to a task, by the way in which the model takes conditions."""

from __future__ import annotations

from collections.abc import Callable

from dreamontage.families import wan_channels, wan_text, wan_ti2v
from dreamontage.families.wan import WanModel, WanTask, Window
from dreamontage.sampling.conditioning.modes import ConditioningMode

_PREPARE: dict[ConditioningMode, Callable[[Window, WanModel], WanTask]] = {
    ConditioningMode.CHANNELS: wan_channels.prepare,
    ConditioningMode.CLEAN_LATENTS: wan_ti2v.prepare,
    ConditioningMode.TEXT_ONLY: wan_text.prepare,
}


def prepare(window: Window, model: WanModel) -> WanTask:
    """The task of a window, for the denoise loop.

    Raises:
        ValueError: for a condition or a tail, if the model takes text alone.
    """
    window.conditions.check(has_tail=window.tail_BCLHW is not None)
    return _PREPARE[window.conditions.mode](window, model)
