"""Peak memory and time of a shot, by its number of segments.

Each length runs in a process of its own, through everything that a take goes through: segments
handed on as latents, fusion, streaming decode, frames into ffmpeg.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from dreamontage import DreaMontagePipeline
from dreamontage.plan import Segment, plan_shot
from dreamontage.storyboard import PromptSpan
from dreamontage.take import write_take

SEGMENTS = (4, 16, 64)
_SIZE = {"width": 64, "height": 64}


def measure(weights: Path, segments: int) -> dict[str, float]:
    """Render a shot of so many segments in this process: seconds, and the peak of its memory."""
    pipe = DreaMontagePipeline.from_pretrained(weights)
    geometry = pipe.geometry
    latents = segments * (geometry.window_latents - geometry.tail_latents) + geometry.tail_latents
    fps = Fraction(16)
    plan = plan_shot(
        frames=4 * latents - 3,
        fps=fps,
        prompts=[PromptSpan(text="pan left")],
        conditions=[],
        seed=1,
        geometry=geometry,
    )
    assert len(plan.segments) == segments
    track = pipe.track([], 64, 64)

    def windows() -> Iterator[tuple[Segment, Tensor]]:
        previous_BCLHW = None
        for segment in plan.segments:
            states = pipe.denoise_segment(
                segment,
                track=track,
                previous_BCLHW=previous_BCLHW,
                **_SIZE,
                sampler=pipe.sampler(2, 1.0),
            )
            previous_BCLHW = deque(states, maxlen=1)[0].latents_BCLHW
            yield segment, previous_BCLHW

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_take(
            pipe.vae, windows(), Path(folder) / "take.mkv", frames=plan.frames, fps=fps, **_SIZE
        )
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"segments": segments, "seconds": seconds, "peak_mib": peak}


def table(weights: Path) -> list[dict[str, float]]:
    """One row a length."""
    return [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "bench.memory", str(weights), str(segments)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for segments in SEGMENTS
    ]


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
