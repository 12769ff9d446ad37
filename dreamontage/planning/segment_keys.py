"""The keys of a take's segments, in order: each holds the one before it, and those of the
super-resolution stage hold the base segments that they are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dreamontage.planning import keys
from dreamontage.planning.draft_window import draft_key
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
) -> list[str]:
    """Those of the base model's segments.

    Args:
        digests: of the conditions' renditions at ``size``, in the order of ``placed``.
        animatic: that of the video that the shot is drafted from, if it is.
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
            draft=draft_key(segment, plan, shot, placed=placed, digests=digests, animatic=animatic),
        )
        found.append(key)
    return found


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
