"""What determines a segment's latents, as one digest: same key, same latents.

A key does not say where in a film, or in which film, its segment is: windows that equal each
other in everything that the model sees, the segment before them included, share their key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dreamontage import timeline
from dreamontage.digests import digest

if TYPE_CHECKING:
    from dreamontage.planning.segments import Segment
    from dreamontage.storyboard.placement import Placed

# Raise one when what the code makes of the same input changes.
FORMAT = 1
UPSCALE_FORMAT = 1


def window_conditions(
    segment: Segment, placed: Sequence[Placed], digests: Sequence[str]
) -> list[dict[str, object]]:
    """The conditions in a segment's window as they enter its key.

    `digests[i]` is the content digest of the rendition of `placed[i]`: the picture or clip as
    it was fitted to the film's size and rate, so that neither file names nor fits matter.
    Frames are counted from the window's first, and may be negative for a clip that began before.
    """
    first = timeline.frames_of(segment.start).start
    return [
        {
            "kind": placed[index].kind,
            "digest": digests[index],
            "frame": placed[index].frame - first,
            "frames": placed[index].frames,
        }
        for index in segment.conditions
    ]


def segment_key(
    *,
    model_revision: str,
    machine: str,
    segment: Segment,
    conditions: Sequence[Mapping[str, object]],
    width: int,
    height: int,
    negative_prompt: str,
    sampler: Mapping[str, object],
    previous: str | None,
    head: str | None = None,
    draft: Mapping[str, object] | None = None,
    coarse: Mapping[str, object] | None = None,
) -> str:
    """The digest of everything that determines a segment's latents.

    `machine` is the kind of device and its precision: another rounds differently.
    `conditions` are those of `window_conditions`, in any order; `sampler` holds what is really
    used, defaults filled in; `previous` is the key of the segment whose latents are the tail,
    `head` of the one whose first latents a loop's closing segment is given; `draft` is what
    `draft.draft_key` gives for a draft start, `coarse` what `segment_keys.coarse_key` gives for a
    segment that is refined from a coarse film.
    """
    assert (previous is None) == (segment.tail == 0)
    assert (head is None) == (segment.head == 0)
    # Only keys of segments that have them hold them, so that all other keys stay what they were.
    special: dict[str, object] = {}
    if head is not None:
        special["head"] = {"key": head, "latents": segment.head}
    if draft is not None:
        special["draft"] = draft
    if coarse is not None:
        special["coarse"] = coarse
    return digest(
        {
            "format": FORMAT,
            "model": model_revision,
            "machine": machine,
            "latents": segment.latents,
            "tail": segment.tail,
            "prompt": segment.prompt,
            "negative_prompt": negative_prompt,
            "seed": segment.seed,
            "sampler": sampler,
            "width": width,
            "height": height,
            "conditions": sorted(conditions, key=digest),
            "previous": previous,
            **special,
        }
    )


def upscale_key(
    *,
    model_revision: str,
    machine: str,
    segment: Segment,
    conditions: Sequence[Mapping[str, object]],
    width: int,
    height: int,
    negative_prompt: str,
    sampler: Mapping[str, object],
    upscaler: Mapping[str, object],
    seed: int,
    film: Sequence[str],
    previous: str | None,
    head: str | None,
) -> str:
    """The digest of everything that determines a segment of the super-resolution stage.

    As `segment_key`, with the SR model's revision and sampler, and the target's size. `upscaler` is
    the record of `Upscaler`, `seed` the take's, and `film` the keys of the base segments that the
    window's enlarged film is made of. Here the window's place in the shot matters: a latent's noise
    comes from it.
    """
    assert (previous is None) == (segment.tail == 0)
    assert (head is None) == (segment.head == 0)
    assert film
    return digest(
        {
            "stage": "upscale",
            "format": UPSCALE_FORMAT,
            "model": model_revision,
            "machine": machine,
            "start": segment.start,
            "latents": segment.latents,
            "tail": segment.tail,
            "prompt": segment.prompt,
            "negative_prompt": negative_prompt,
            "seed": seed,
            "sampler": sampler,
            "upscaler": upscaler,
            "width": width,
            "height": height,
            "conditions": sorted(conditions, key=digest),
            "film": film,
            "previous": previous,
            "head": None if head is None else {"key": head, "latents": segment.head},
        }
    )
