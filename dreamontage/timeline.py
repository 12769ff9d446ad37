"""Seconds, frames and latents: exact integer arithmetic, and nothing else.

A *frame* is a picture's index from 0 within its shot. A *latent* is an index on the latent
timeline of a causal video autoencoder (Wan's, arXiv 2503.20314): latent 0 stands for frame 0
alone, and latent l >= 1 for the four frames 4l - 3 .. 4l. A shot whose frame count is not
1 + 4k is rendered with the next such count, decoded, and cut back.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

TEMPORAL_STRIDE = 4

Seconds = Fraction | Decimal | float | int


def exact(seconds: Seconds) -> Fraction:
    """The number as it was written: the float 0.1 is one tenth, not 0.1000000000000000055."""
    return Fraction(str(seconds)) if isinstance(seconds, float) else Fraction(seconds)


def frame_at(seconds: Seconds, fps: Fraction) -> int:
    """The frame nearest to a time; a time midway between two frames takes the later one."""
    return (exact(seconds) * fps + Fraction(1, 2)).__floor__()


def seconds_at(frame: int, fps: Fraction) -> Fraction:
    """The time at which a frame begins; for a shot's frame count, the time at which it ends."""
    return Fraction(frame) / fps


def latent_of(frame: int) -> int:
    """The latent that a frame is part of."""
    assert frame >= 0
    return -(-frame // TEMPORAL_STRIDE)


def frames_of(latent: int) -> range:
    """The frames that a latent stands for: one for latent 0, four for every other."""
    assert latent >= 0
    stop = TEMPORAL_STRIDE * latent + 1
    return range(max(0, stop - TEMPORAL_STRIDE), stop)


def latent_count(frames: int) -> int:
    """How many latents a shot of this many frames has, once it is padded."""
    assert frames >= 1
    return latent_of(frames - 1) + 1


def padded(frames: int) -> int:
    """The smallest frame count of the form 1 + 4k that is not below this one."""
    return TEMPORAL_STRIDE * (latent_count(frames) - 1) + 1


def loop_frames(frames: Fraction | int) -> int:
    """The length of a loop nearest to this one: a multiple of four, the longer one midway.

    [ours] A loop is cut where a latent ends, so that it begins again on a frame of its own.
    """
    return TEMPORAL_STRIDE * (Fraction(frames) / TEMPORAL_STRIDE + Fraction(1, 2)).__floor__()


def offset_in_latent(frame: int) -> int:
    """Which of a latent's frames this is, 0 to 3: the channel that marks it in a Wan mask.

    Frame 0 gives 0; all four mask channels of latent 0 stand for it.
    """
    return frame - frames_of(latent_of(frame)).start


def clip_start(frame: int, frames: int) -> int | None:
    """The first frame of a clip that the model is given, None when the clip is too short.

    [ours] A clip placed on the frames `frame` .. `frame + frames - 1` is encoded as a film of
    its own: its first frame alone, then four frames a latent. That agrees with the shot's grid
    only if the first frame is the last of its latent, so up to three frames before it are left
    to the model. A clip that holds no such frame counts as a still at its first one.
    """
    assert frames >= 1
    first = TEMPORAL_STRIDE * latent_of(frame)
    return first if first < frame + frames else None


def clip_latents(frame: int, frames: int) -> range:
    """The latents that a clip is given on: from its aligned start to its last frame's.

    The last may be covered in part: the clip need not end where a latent does.
    """
    if clip_start(frame, frames) is None:
        return range(latent_of(frame), latent_of(frame) + 1)
    return range(latent_of(frame), latent_of(frame + frames - 1) + 1)
