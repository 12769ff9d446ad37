"""The keys of a take's segments, in order: each holds the one before it, and those of the
super-resolution stage hold the base segments that they are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dreamontage import timeline
from dreamontage.digests import digest
from dreamontage.planning import keys
from dreamontage.planning.coarse import STRENGTH, CoarseLevel
from dreamontage.planning.draft_window import draft_key, window
from dreamontage.planning.segments import Segment, ShotPlan
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.storyboard import Shot, Size
from dreamontage.storyboard.placement import Placed


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """What makes a stage's segments: the model, where it computes, and how it is sampled.

    `sampler` holds what is really used, defaults filled in; `negative_prompt` is the storyboard's.
    """

    revision: str
    machine: str
    sampler: Mapping[str, int | float]
    negative_prompt: str

    @property
    def effective_negative_prompt(self) -> str:
        """Empty without guidance: the model never sees it then."""
        return self.negative_prompt if self.sampler["guidance"] > 1 else ""

    def sampler_for(self, segment: Segment) -> dict[str, int | float]:
        """What determines a segment: image guidance does nothing where no condition is."""
        return {
            name: value
            for name, value in self.sampler.items()
            if segment.has_image_condition or name != "image_guidance"
        }


def sampler_to_json(
    *, steps: int, guidance: float, image_guidance: float
) -> dict[str, int | float]:
    """A sampler's settings as keys and records hold them. Image guidance is left out where it is 1,
    which does nothing, so that keys from before it stay valid."""
    result: dict[str, int | float] = {"steps": steps, "guidance": guidance}
    return result if image_guidance == 1 else {**result, "image_guidance": image_guidance}


def base_keys(
    plan: ShotPlan,
    shot: Shot,
    *,
    settings: RenderSettings,
    size: Size,
    placed: Sequence[Placed],
    digests: Sequence[str],
    animatic: str | None,
    coarse: tuple[CoarseLevel, Sequence[str]] | None = None,
) -> list[str]:
    """Those of the base model's segments.

    Args:
        digests: of the conditions' renditions at ``size``, in the order of ``placed``.
        animatic: that of the video that the shot is drafted from, if it is.
        coarse: the level that the segments are refined from, with its segments' keys. The shot's
            draft is that level's then.
    """
    found: list[str] = []
    for segment in plan.segments:
        key = keys.segment_key(
            model_revision=settings.revision,
            machine=settings.machine,
            segment=segment,
            conditions=keys.window_conditions(segment, placed, digests),
            width=size.width,
            height=size.height,
            negative_prompt=settings.effective_negative_prompt,
            sampler=settings.sampler_for(segment),
            previous=found[-1] if found else None,
            head=found[0] if segment.head else None,
            draft=None
            if coarse
            else draft_key(segment, plan, shot, placed=placed, digests=digests, animatic=animatic),
            coarse=coarse and coarse_key(segment, *coarse),
        )
        found.append(key)
    return found


def coarse_level_keys(
    level: CoarseLevel,
    shot: Shot,
    *,
    settings: RenderSettings,
    size: Size,
    digests: Sequence[str],
    animatic: str | None,
) -> list[str]:
    """Those of the coarse level's segments; as `base_keys`, with the digests of the shot."""
    shown = {"stride": level.stride, "shown": list(level.shown)}
    return base_keys(
        level.plan,
        shot,
        settings=settings,
        size=size,
        placed=level.placed,
        digests=[
            digests[each.source]
            if each.placed.kind == "keyframe" and each.offsets == (0,)
            else digest({"digest": digests[each.source], "frames": list(each.offsets)})
            for each in level.conditions
        ],
        animatic=None if animatic is None else digest({"digest": animatic, **shown}),
    )


def coarse_key(
    segment: Segment, level: CoarseLevel, level_keys: Sequence[str]
) -> Mapping[str, object]:
    """The part of a segment's key that describes the coarse film that it is refined from.

    Decoding is causal: a window depends on the coarse segments that begin before its end. Frames
    count from the window's first.
    """
    span = window(segment)
    around, count = level.around(span), len(level.shown)
    last = level.plan.latents if around.stop > count else timeline.latent_of(around[-1]) + 1
    return {
        "strength": STRENGTH,
        "stride": level.stride,
        "first": around.start,
        "shown": [level.shown[index % count] - span.start for index in around],
        "film": [
            key
            for each, key in zip(level.plan.segments, level_keys, strict=True)
            if each.start < last
        ],
    }


def upscale_keys(
    plan: ShotPlan,
    *,
    settings: RenderSettings,
    upscaler: Upscaler,
    size: Size,
    seed: int,
    placed: Sequence[Placed],
    digests: Sequence[str],
    base: Sequence[tuple[Segment, str]],
) -> list[str]:
    """Those of the super-resolution stage's segments, on the SR model's own plan.

    Args:
        size: the target's, and that of the renditions whose ``digests`` are given.
        seed: the take's.
        base: the base model's segments, with their keys.
    """
    found: list[str] = []
    for segment in plan.segments:
        key = keys.upscale_key(
            model_revision=settings.revision,
            machine=settings.machine,
            segment=segment,
            conditions=keys.window_conditions(segment, placed, digests),
            width=size.width,
            height=size.height,
            negative_prompt=settings.effective_negative_prompt,
            sampler=settings.sampler,
            upscaler=upscaler.to_json(),
            seed=seed,
            # Decoding and encoding are causal: a window depends on all that comes before its end.
            film=[key for each, key in base if each.start < segment.stop],
            previous=found[-1] if found else None,
            head=found[0] if segment.head else None,
        )
        found.append(key)
    return found
