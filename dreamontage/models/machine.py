"""The kind of machine that computed a segment, as its key names it."""

from __future__ import annotations


def machine_kind(device: str) -> str:
    """The kind of a torch device and the precision that models run in there.

    bfloat16 on a GPU, float32 on a CPU, where bfloat16 is slower.
    """
    kind = device.partition(":")[0]
    return f"{kind} {'float32' if kind == 'cpu' else 'bfloat16'}"
