"""The farm's super-resolution stage beside what a notebook makes of the same take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.pipeline.upscale import upscale_shot
from dreamontage.rendering.take import load_condition
from dreamontage.storyboard.placement import Placed
from flows import steps
from flows.studio.farm import Farm
from tests.support.boards import prompt_of

SR_STEPS = 6  # run of a segment; the SR model has eight, and starts at the third
WINDOWS = 3  # of either stage


def in_one_go(farm: Farm, take_id: str, scale: float) -> torch.Tensor:
    """A take's refined latents from a notebook's two calls. Nothing is stored between."""
    take = farm.repository.take(take_id)
    shot = farm.repository.shot(take.shot_id)
    board = steps.board_of(farm, shot.storyboard_id)
    wanted = board.shots[0]
    rows = farm.repository.conditions(take.shot_id)

    def conditions(addresses: Iterable[str | None]) -> list[Keyframe | Clip]:
        made = []
        with farm.scratch() as folder:
            for row, address in zip(rows, addresses, strict=True):
                assert address is not None
                placed = Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=1)
                path = farm.store.fetch(address, folder / str(row.index))
                made.append(load_condition(placed, path))
        return made

    call: dict[str, Any] = {
        "prompt": prompt_of(wanted.prompts),
        "height": board.size.height,
        "width": board.size.width,
        "num_frames": shot.frames,
        "loop": wanted.loop,
        "seed": take.seed,
        "output_type": "latent",
    }
    assert farm.settings.sr_weights is not None
    pipe = DreaMontagePipeline.from_pretrained(farm.settings.weights)
    sr = DreaMontagePipeline.from_pretrained(farm.settings.sr_weights)
    small: Any = pipe(**call, conditions=conditions(row.rendition_address for row in rows))
    larger = conditions(row.target_address for row in rows)
    latents: torch.Tensor = upscale_shot(small.frames, sr, scale, **call, conditions=larger).frames
    return latents
