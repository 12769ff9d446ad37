"""The film that is refined: a take's base latents, decoded, enlarged and encoded again.

Decoding and encoding are causal, so a window far into a film cannot be enlarged without all that
comes before it. It is done once for a take, in one pass, and each window that is still to be
refined finds its part in the store, under an address in its segment's row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from db.models import TakeSegment
from db.states import SegmentState, Stage
from flows.farm import Farm
from flows.steps.finished import latents_of, put_latents
from flows.steps.shots import ShotContext, context_of, plan_of, upscaler_of
from storage.base import size_of

if TYPE_CHECKING:
    from torch import Tensor

    from dreamontage.plan import Segment


def enlarge_take(farm: Farm, take_id: str) -> dict[str, str]:
    """See to it that every window that is not refined yet has its enlarged latents in the store;
    the addresses of those that were made here, by their segments' keys. Holds two windows.

    Raises:
        LostWork: when latents of base segments are not in the store.
    """
    take = farm.repository.take(take_id)
    slots = farm.repository.take_segments(take_id)
    larger = [slot for slot in slots if slot.stage is Stage.UPSCALE]
    wanting = [index for index, slot in enumerate(larger) if _wants(farm, slot.key)]
    made: dict[str, str] = {}
    if not wanting:
        return made
    context = context_of(farm, take.shot_id)
    for segment, enlarged_BCLHW in _windows(farm, context, slots, take.seed):
        if segment.index in wanting:
            key = larger[segment.index].key
            made[key] = put_latents(farm, "enlarged", enlarged_BCLHW)
            farm.repository.set_enlarged(key, made[key])
        if segment.index == wanting[-1]:
            break  # nobody waits for what comes after it
    return made


def enlarged_of(farm: Farm, take_id: str, key: str) -> Tensor:
    """The enlarged latents that a segment of the upscale stage starts from, latents_BCLHW; made
    here if they are not in the store, or not any more.

    Raises:
        LostWork: as `enlarge_take`.
    """
    from safetensors.torch import load

    address = farm.repository.segment(key).enlarged_address
    data = address and farm.read(address)
    if not data:
        if address is not None:
            farm.repository.forget_enlarged(key, address)
        # Of another take's that holds this window, too, a worker may have come first.
        made = enlarge_take(farm, take_id).get(key)
        data = farm.store.get(made or str(farm.repository.segment(key).enlarged_address))
    return load(data)["latents"]


def _wants(farm: Farm, key: str) -> bool:
    row = farm.repository.segment(key)
    if row.state is SegmentState.DONE:
        return False
    return row.enlarged_address is None or size_of(farm.store, row.enlarged_address) is None


def _windows(
    farm: Farm, context: ShotContext, slots: list[TakeSegment], seed: int
) -> Iterator[tuple[Segment, Tensor]]:
    """The enlarged film, cut into the SR model's windows, made as far as it is asked for."""
    from dreamontage.sar import fuse
    from dreamontage.upscale.enlarge import cut, enlarge, met_again
    from dreamontage.upscale.stage import grid_of
    from flows.model import pipeline_of

    base, plan = (plan_of(farm, context, seed, stage) for stage in Stage)
    pipe, upscaler = pipeline_of(farm, Stage.UPSCALE), upscaler_of(farm, context.board)
    height, width = context.board.size.height, context.board.size.width
    windows = (
        (segment, latents_of(farm, slot.key))
        for segment, slot in zip(base.segments, slots, strict=False)  # the base's come first
    )
    film = enlarge(
        pipe.vae,
        fuse(windows),
        upscaler.size(height, width),
        upscaler.padded(height, width, multiple=grid_of(pipe)),
    )
    return cut(met_again(film, plan.segments[-1].head), plan.segments)
