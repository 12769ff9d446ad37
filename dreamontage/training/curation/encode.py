"""An accepted video -> its latents with posterior mean and variance, and stills encoded alone.

Whole-video latents are computed once and windows drawn from them (DreaMontage, "Adaptive Tuning").
A still condition is a frame *re-encoded alone*, which cannot be computed from them. So candidate
frames are encoded alone here: every fourth one, where a latent ends and a clip condition can begin,
and those where an action begins or ends.

Shapes: B = 1, C = 3 colours, T frames, Z latent channels, L latent frames, K stills, H W height and
width of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamontage import media
from dreamontage.models.autoencoder import StreamingEncoder
from dreamontage.models.codec import LinearCodec
from dreamontage.models.folder import folder_revision
from dreamontage.models.loading import autoencoder_folder, autoencoder_of
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.timeline import TEMPORAL_STRIDE, padded
from dreamontage.training.curation.flow import Pixels
from dreamontage.training.curation.measure import Measurement
from dreamontage.training.curation.target import Target
from dreamontage.training.datasets.shards import Codec, Facts, StoredClip
from dreamontage.training.synthetic.captions import Action

_STILLS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """How to store a video.

    key and name: of the clip in the data set. longest: seconds, as in its measurement.
    stills_every: frames between stills, a divisor of 4. With 4 there are stills where latents end;
    with 1 at every frame, in four times the space.
    """

    key: str
    name: str
    target: Target
    longest: float
    stills_every: int = TEMPORAL_STRIDE


def codec_facts(vae: Any, revision: str) -> Codec:
    """A data set's record of its autoencoder: LinearCodec, or any with diffusers' Wan config."""
    return Codec(
        name=type(vae).__name__,
        revision=revision,
        mean=tuple(vae.config.latents_mean),
        std=tuple(vae.config.latents_std),
        memoryless=isinstance(vae, LinearCodec),
    )


def load_autoencoder(folder: Path, device: str = "cpu") -> tuple[Any, Codec]:
    """The autoencoder in a model's folder or in its own folder, in diffusers' layout.

    Raises ValueError when the folder holds none.
    """
    own = autoencoder_folder(folder)
    vae = autoencoder_of(own).to(device)
    return vae, codec_facts(vae, folder_revision(own))


def encode_video(
    vae: Any, path: Path, found: Measurement, actions: Sequence[Action], wanted: EncodeRequest
) -> StoredClip:
    """Encode a measured video. Raises ValueError when it cannot be decoded."""
    info = media.probe(path)
    assert info.duration is not None
    width, height = wanted.target.size_for(info.width, info.height)
    frames = media.stream_clip(
        path,
        info,
        width=width,
        height=height,
        fps=wanted.target.fps,
        fit="crop",
        end=wanted.longest if info.duration > wanted.longest else None,
    )
    return encode_frames(
        vae,
        frames,
        count=found.frames,
        actions=actions,
        key=wanted.key,
        source=wanted.name,
        source_digest=found.digest,
        fps=wanted.target.fps,
        scores=found.scores,
        stills_every=wanted.stills_every,
    )


def encode_frames(
    vae: Any,
    frames: Iterable[Pixels],
    *,
    count: int,
    actions: Sequence[Action],
    key: str,
    source: str,
    source_digest: str,
    fps: Fraction,
    scores: Mapping[str, float],
    stills_every: int = TEMPORAL_STRIDE,
) -> StoredClip:
    """Encode `count` frames, cut to 1 + 4k. Only the frames of one latent are in memory."""
    if stills_every < 1 or TEMPORAL_STRIDE % stills_every:
        raise ValueError(f"stills_every = {stills_every} must divide {TEMPORAL_STRIDE}")
    frame_count = padded(count)
    frame_count -= TEMPORAL_STRIDE if frame_count > count else 0
    actions = [
        Action(start=each.start, stop=min(each.stop, frame_count), text=each.text)
        for each in actions
        if each.start < frame_count
    ]
    borders = {frame for action in actions for frame in (action.start, action.stop)}
    wanted = {frame for frame in borders | {0, frame_count - 1} if frame < frame_count}
    wanted |= set(range(0, frame_count, stills_every))
    encoder = StreamingEncoder(vae)
    means: list[Tensor] = []
    logvars: list[Tensor] = []
    stills: list[Tensor] = []
    waiting: list[Tensor] = []
    height = width = 0
    for first, video_BCTHW in _runs(frames, frame_count):
        height, width = video_BCTHW.shape[3:]
        posterior = encoder(video_BCTHW)
        means.append(posterior.mean[0].cpu().half())
        logvars.append(posterior.logvar[0].cpu().bfloat16())
        waiting += [
            video_BCTHW[:, :, at : at + 1]
            for at in range(video_BCTHW.shape[2])
            if first + at in wanted
        ]
        if len(waiting) >= _STILLS_AT_ONCE:
            stills.append(_alone(vae, waiting))
            waiting = []
    if waiting:
        stills.append(_alone(vae, waiting))
    logvar_ZLHW = torch.cat(logvars, 1)
    if (logvar_ZLHW == logvar_ZLHW.flatten()[0]).all():
        logvar_ZLHW = logvar_ZLHW[:1, :1, :1, :1]
    mean_ZLHW = torch.cat(means, 1)
    return StoredClip(
        facts=Facts(
            key=key,
            source=source,
            source_digest=source_digest,
            fps=fps,
            width=width,
            height=height,
            frames=frame_count,
            latents=mean_ZLHW.shape[1],
            latent_height=mean_ZLHW.shape[2],
            latent_width=mean_ZLHW.shape[3],
            stills=tuple(sorted(wanted)),
            actions=tuple(actions),
            scores=dict(scores),
        ),
        mean_ZLHW=mean_ZLHW,
        logvar_ZLHW=logvar_ZLHW,
        stills_KZHW=torch.cat(stills),
    )


def _runs(frames: Iterable[Pixels], frame_count: int) -> Iterator[tuple[int, Tensor]]:
    """The frames of one latent at a time (1, then 4, 4, ...), with the number of the first."""
    run: list[Pixels] = []
    index = -1
    for index, frame_HWC in zip(range(frame_count), frames, strict=False):
        run.append(frame_HWC)
        if index % TEMPORAL_STRIDE == 0:
            height, width = frame_HWC.shape[:2]
            yield index - len(run) + 1, pixels(run, height, width)
            run = []
    if index + 1 != frame_count:
        raise ValueError(
            f"the video gave {index + 1} frames, and {frame_count} when it was measured"
        )


@torch.no_grad()
def _alone(vae: Any, stills: Sequence[Tensor]) -> Tensor:
    video_KCTHW = torch.cat(tuple(stills)).to(vae.device, vae.dtype)
    latents_KZLHW: Tensor = vae.encode(video_KCTHW).latent_dist.mode()
    return latents_KZLHW[:, :, 0].cpu().half()
