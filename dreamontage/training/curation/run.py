"""A folder of videos -> a data set in another folder, in this process.

    measured/    the measurements of each video, with a strip of its pictures
    parts/       encoded clips that are not yet in a shard: each a shard of its own
    shard-*, index.json   the data set (`datasets.shards`)
    report.json, report.txt, kept.png, dropped.png

Nothing is done twice, whenever and however a run is stopped: a video is not measured again if its
file and the measures are the same, and a clip is not encoded again if its key is known. With other
limits only the verdicts change. A clip that is no longer accepted is removed from the data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dreamontage import media
from dreamontage.training.curation import report
from dreamontage.training.curation.encode import EncodeRequest, encode_video
from dreamontage.training.curation.judge import Rule, Verdict
from dreamontage.training.curation.measured import measure_once
from dreamontage.training.curation.videos import Curation, Entry, accepted, decide, find_videos
from dreamontage.training.datasets import shards
from dreamontage.training.datasets.shards import Codec, Shard, StoredClip

SHARD_BYTES = 1 << 30
"""Bytes of clips in a full shard."""

Progress = Callable[[str, int, int], None]
"""Called with the current step, how many are done, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Curated:
    """The result for a folder. `clips`: how many the data set holds; None if none was made."""

    entries: Sequence[Entry]
    clips: int | None


def curate(
    folder: Path,
    out: Path,
    curation: Curation,
    *,
    autoencoder: tuple[Any, Codec] | None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda what, done, total: None,
) -> Curated:
    """Measure, judge and (with an autoencoder) encode the videos of a folder into `out`.

    A video that cannot be used is in the report, whatever is wrong with it; the run continues.

    Raises:
        ValueError: when the folder holds no videos, when `out` holds a data set of another
            autoencoder, or when there is no ffmpeg.
    """
    media.ffmpeg_binary()  # without ffmpeg, every video would seem unreadable
    names = find_videos(folder, but=out)
    (out / "measured").mkdir(parents=True, exist_ok=True)
    held = [] if autoencoder is None else _held(out, autoencoder[1])
    found = {}
    for done, name in enumerate(names):
        progress(f"looking at {name}", done, len(names))
        found[name] = measure_once(folder, name, out / "measured", curation)
    progress("looked at all videos", len(names), len(names))
    entries = decide(folder, found, curation)
    clips = None
    if autoencoder is not None:
        vae, codec = autoencoder
        entries = _encode_all(folder, out, curation, entries, vae, codec, held, progress)
        wanted = [each.key(curation, codec) for each in accepted(entries)]
        clips = _pack(out, codec, wanted, held, shard_bytes)
    report.write(out, entries, settings(curation))
    return Curated(entries=entries, clips=clips)


def settings(curation: Curation) -> dict[str, Any]:
    """A run's settings, for its report."""
    target = {**asdict(curation.target), "fps": str(curation.target.fps)}
    return {
        "target": target,
        "limits": asdict(curation.limits),
        "measures": curation.measures.facts(),
        "stills_every": curation.stills_every,
    }


def _held(out: Path, codec: Codec) -> list[Shard]:
    """The complete shards on disk; the clips of torn ones are encoded again."""
    if not (out / shards.INDEX).exists():
        return []
    data = shards.Dataset(out)
    if data.codec != codec:
        raise ValueError(
            f"{out}: holds latents of another autoencoder; give another folder, or empty this one"
        )
    held = []
    for shard in data.shards:
        try:
            shards.check_shard(out, shard)
        except shards.TornShard:
            continue
        held.append(shard)
    return held


def _encode_all(
    folder: Path,
    out: Path,
    curation: Curation,
    entries: Sequence[Entry],
    vae: Any,
    codec: Codec,
    held: Sequence[Shard],
    progress: Progress,
) -> list[Entry]:
    """Encode accepted videos that are not encoded yet into `parts`; failing ones are dropped."""
    parts = out / "parts"
    parts.mkdir(exist_ok=True)
    known = {facts.key for shard in held for facts in shard.clips}
    done, total = 0, len(accepted(entries))
    encoded = []
    for entry in entries:
        if entry.verdict.accepted:
            progress(f"encoding {entry.name}", done, total)
            entry = _encoded(folder, parts, curation, entry, vae, codec, known)
            done += 1
        encoded.append(entry)
    progress("encoded all clips", total, total)
    return encoded


def _encoded(
    folder: Path,
    parts: Path,
    curation: Curation,
    entry: Entry,
    vae: Any,
    codec: Codec,
    known: set[str],
) -> Entry:
    key = entry.key(curation, codec)
    if key in known or (parts / key).exists():
        return entry
    wanted = EncodeRequest(
        key=key,
        name=entry.name,
        target=curation.target,
        longest=curation.longest,
        stills_every=curation.stills_every,
    )
    try:
        clip = encode_video(vae, folder / entry.name, entry.found, entry.actions, wanted)
    except (ValueError, OSError) as error:  # changed or deleted since it was measured
        verdict = Verdict(rule=Rule.READABLE, reason=str(error))
        return replace(entry, verdict=verdict)
    shard = shards.write_shard(parts, [clip])
    os.replace(parts / shard.file, parts / key)
    return entry


def _pack(
    out: Path, codec: Codec, wanted: Sequence[str], held: Sequence[Shard], shard_bytes: int
) -> int:
    """Join the parts into shards, and remove clips that are not wanted; returns how many remain.

    The index on disk names complete shards at every moment: new shards are written before it, and
    old ones are deleted after it.
    """
    parts = out / "parts"
    order = dict.fromkeys(wanted)
    unchanged: list[Shard] = []
    for shard in held:
        if all(facts.key in order for facts in shard.clips):
            unchanged.append(shard)
            continue
        for number, facts in enumerate(shard.clips):
            if facts.key in order and not (parts / facts.key).exists():
                clip = shards.read_clip(out / shard.file, facts, number)
                part = shards.write_shard(parts, [clip])
                os.replace(parts / part.file, parts / facts.key)
    packed = {facts.key for shard in unchanged for facts in shard.clips}
    unpacked = [key for key in order if key not in packed]
    made = [shards.write_shard(out, clips) for clips in _groups(parts, unpacked, shard_bytes)]
    shards.write_index(out, codec, [*unchanged, *made])
    named = {shard.file for shard in (*unchanged, *made)}
    for path in [*out.glob(f"shard-*{shards.SUFFIX}"), *out.glob(".*.part"), *parts.iterdir()]:
        if path.name not in named:
            path.unlink()
    return sum(len(shard.clips) for shard in (*unchanged, *made))


def _groups(parts: Path, keys: Sequence[str], shard_bytes: int) -> Iterator[list[StoredClip]]:
    """The parts' clips, in groups that fill a shard; at least one clip each."""
    group: list[StoredClip] = []
    size = 0
    for key in keys:
        (facts,) = shards.clips_of(parts / key)
        size += (parts / key).stat().st_size
        if group and size > shard_bytes:
            yield group
            group, size = [], (parts / key).stat().st_size
        group.append(shards.read_clip(parts / key, facts, 0))
    if group:
        yield group
