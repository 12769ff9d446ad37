"""The model in this process: loaded at the first segment, kept for all that follow."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path

import torch

from dreamontage.pipeline import DreaMontagePipeline

_log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def load(weights: Path, device: str) -> DreaMontagePipeline:
    """The pipeline on its device; bfloat16 on a GPU, float32 on a CPU, where bfloat16 is slower."""
    began = time.monotonic()
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipe = DreaMontagePipeline.from_pretrained(weights, dtype=dtype).to(device)
    _log.info("loaded %s on %s in %.1f s", weights.name, device, time.monotonic() - began)
    return pipe
