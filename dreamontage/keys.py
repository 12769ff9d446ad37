"""What determines a segment's latents, as one digest: same key, same latents.

A key does not say where in a film, or in which film, its segment stands: windows that equal
each other in everything that the model sees, the segment before them included, share their key.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamontage import timeline

if TYPE_CHECKING:
    from dreamontage.placement import Placed
    from dreamontage.plan import Segment

# Raise one when what the code makes of the same input changes.
FORMAT = 1
UPSCALE_FORMAT = 1


def digest(value: object) -> str:
    """The sha256, in hex, of a JSON value in canonical form.

    Canonical: keys sorted, no white space, text in Unicode NFC, a float without a fraction
    written as the integer it equals and any other by its shortest exact decimal. Raises
    `ValueError` for nan, infinities and keys that NFC makes equal, `TypeError` for what JSON
    does not know.
    """
    text = json.dumps(
        _canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256, in hex, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return int(value) if value.is_integer() else value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list | tuple):
        return [_canonical(entry) for entry in value]
    if isinstance(value, Mapping):
        result: dict[str, object] = {}
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key must be text, not {type(key).__name__}")
            name = unicodedata.normalize("NFC", key)
            if name in result:
                raise ValueError(f"the key {name!r} stands twice")
            result[name] = _canonical(entry)
        return result
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def machine_kind(device: str) -> str:
    """The kind of a torch device and the precision that models run in there.

    bfloat16 on a GPU, float32 on a CPU, where bfloat16 is slower.
    """
    kind = device.partition(":")[0]
    return f"{kind} {'float32' if kind == 'cpu' else 'bfloat16'}"


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
) -> str:
    """The digest of everything that determines a segment's latents.

    `machine` is the kind of device and its precision: another rounds differently.
    `conditions` are those of `window_conditions`, in any order; `sampler` holds what is really
    used, defaults filled in; `previous` is the key of the segment whose latents are the tail,
    `head` of the one whose first latents a loop's closing segment is given; `draft` is what
    `draft.key_of` tells of a draft start.
    """
    assert (previous is None) == (segment.tail == 0)
    assert (head is None) == (segment.head == 0)
    # Only segments that have them tell of them, so that all other keys stay what they were.
    special: dict[str, object] = {}
    if head is not None:
        special["head"] = {"key": head, "latents": segment.head}
    if draft is not None:
        special["draft"] = draft
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
    what `Upscaler.told` says, `seed` the take's, and `film` the keys of the base segments that the
    window's enlarged film is made of. Here it does matter where a window stands: a latent's noise
    comes from its place in the shot.
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
