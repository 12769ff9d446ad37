"""What segments have come to: their latents, in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.farm import Farm

if TYPE_CHECKING:
    from torch import Tensor


class LostWork(RuntimeError):  # noqa: N818 - it says what happened
    """Something finished is gone from the store, and has been opened to be made again."""


def latents_of(farm: Farm, key: str) -> Tensor:
    """A finished segment's latents, latents_BCLHW.

    Raises:
        LostWork: when they are not in the store, or not any more. A segment whose latents are
            lost is open again: planning and rendering the take anew mends it.
    """
    from safetensors.torch import load

    address = farm.repository.segment(key).latents_address
    data = address and farm.read(address)
    if not data:
        if address is not None:
            farm.repository.forget_latents(key, address)
        raise LostWork(f"the latents of segment {key} are lost: they have to be rendered again")
    return load(data)["latents"]


def put_latents(farm: Farm, kind: str, latents_BCLHW: Tensor) -> str:
    """Keep latents under this kind of address, as `latents_of` reads them; their address."""
    from safetensors.torch import save

    latents_BCLHW = latents_BCLHW.float().cpu().contiguous()
    return farm.store.put(kind, save({"latents": latents_BCLHW}), ".safetensors")
