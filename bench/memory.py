"""Peak memory and time of a shot, by its number of segments.

Each length runs in a process of its own, through everything that a take goes through: segments
handed on as latents, fusion, streaming decode, frames into ffmpeg. Linux only: reads ``/proc``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from bench.models import Size
from dreamontage import DreaMontagePipeline
from dreamontage.planning.segments import Segment, plan_shot
from dreamontage.rendering.take import write_take
from dreamontage.storyboard import PromptSpan

SEGMENTS = (4, 16, 64)
STEPS = 2
_SIZE: Size = {"width": 64, "height": 64}


def measure(weights: Path, segments: int) -> dict[str, float]:
    """Render a shot of so many segments in this process.

    Returns:
        ``seconds``; ``cpu_seconds``, those that this process got; ``loaded_mib``, resident once
        torch is imported and the model is loaded; ``peak_mib``, the most that was resident from
        there on; and ``drift_mib``, how much more is resident before the last segment than before
        the third.
    """
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
    track = pipe.track([], **_SIZE)
    resident: list[float] = []

    def windows() -> Iterator[tuple[Segment, Tensor]]:
        previous_BCLHW = None
        for segment in plan.segments:
            resident.append(_mib("VmRSS"))
            states = pipe.denoise_segment(
                segment,
                track=track,
                previous_BCLHW=previous_BCLHW,
                **_SIZE,
                sampler=pipe.sampler(STEPS, 1.0),
            )
            previous_BCLHW = deque(states, maxlen=1)[0].latents_BCLHW
            yield segment, previous_BCLHW

    # Loading may have needed more for a moment: the peak counts from here.
    Path("/proc/self/clear_refs").write_text("5")
    loaded = _mib("VmRSS")
    began, cpu_began = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        write_take(
            pipe.vae, windows(), Path(folder) / "take.mkv", frames=plan.frames, fps=fps, **_SIZE
        )
    return {
        "segments": segments,
        "frames": plan.frames,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "loaded_mib": loaded,
        "peak_mib": _mib("VmHWM"),
        "drift_mib": resident[-1] - resident[2],
    }


def _mib(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


def table(weights: Path) -> Iterator[dict[str, float]]:
    """Yield a row a length, shortest first."""
    for segments in SEGMENTS:
        done = subprocess.run(
            [sys.executable, "-m", "bench.memory", str(weights), str(segments)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
