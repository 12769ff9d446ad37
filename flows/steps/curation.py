"""Curating a folder of videos on the farm: each function safe to run twice.

A folder goes through them in this order: measure for each video, plan_clips, encode for each group
of clips, publish. The folder is one that every worker sees under the same path. What is made goes
into the store and is found again under the digest of what determines it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamontage.digests import digest
from dreamontage.training.curation.measure import Measurement
from dreamontage.training.curation.measure import measure as measure_video
from dreamontage.training.curation.measured import from_text, to_text
from dreamontage.training.curation.videos import Curation, Entry, accepted, decide, find_videos
from flows.studio.farm import Farm
from storage import NotFound
from storage.address import address_of

if TYPE_CHECKING:
    from dreamontage.training.datasets.shards import Codec, Shard, StoredClip

CLIPS_A_SHARD = 64
_CRASHED = "processes died while looking at it"

Options = Mapping[str, Any]
"""The options of `dreamontage curate` that a run was started with, by name."""


def curation_of(farm: Farm, options: Options) -> Curation:
    """The settings that the options name. Raises ValueError for one that is none."""
    from dreamontage.training.curation import command

    try:
        choices = command.Choices(weights=farm.settings.weights, **options)
    except TypeError as error:
        raise ValueError(f"options: {str(error).partition('() ')[2]}") from None
    return command.curation_of(choices)


def videos_of(folder: str) -> list[str]:
    return find_videos(Path(folder))


def measure(farm: Farm, folder: str, name: str, curation: Curation) -> bool:
    """See to it that a video is measured; whether this call did it.

    One that could not be used is looked at again: it may have been the disk, or a hook, that
    failed. Only what brings processes down is left alone for good.
    """
    key = _measured_key(folder, name, curation)
    address = farm.repository.curated([key]).get(key)
    data = address and farm.read(address)
    if data and from_text(json.loads(data)).fault in (None, _CRASHED):
        return False
    _add_measured(farm, key, measure_video(Path(folder) / name, curation.measures))
    return True


def record_crash(farm: Farm, folder: str, name: str, curation: Curation) -> None:
    """Say that a video cannot be looked at without the process dying of it."""
    found = Measurement(digest="", fault=_CRASHED)
    _add_measured(farm, _measured_key(folder, name, curation), found)


def _add_measured(farm: Farm, key: str, found: Measurement) -> None:
    text = json.dumps(to_text(found), sort_keys=True)
    farm.repository.add_curated(key, farm.store.put("measured", text.encode(), ".json"))


def _measured_key(folder: str, name: str, curation: Curation) -> str:
    try:
        stat = (Path(folder) / name).stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
    except OSError:  # gone since the folder was listed: measuring it says so
        stamp = []
    return digest({"video": [folder, name, stamp], "measures": curation.measures.facts()})


def judged(
    farm: Farm, folder: str, curation: Curation, names: Sequence[str] | None = None
) -> list[Entry]:
    """The verdict on every video of the folder, or only on some, as if the folder held no others;
    those that are not measured yet, are."""
    names = videos_of(folder) if names is None else names
    by_name = {name: _measured_key(folder, name, curation) for name in names}
    rows = farm.repository.curated(list(by_name.values()))
    found = {}
    for name, key in by_name.items():
        data = rows.get(key) and farm.read(rows[key])
        if not data:
            measure(farm, folder, name, curation)
            data = farm.store.get(farm.repository.curated([key])[key])
        found[name] = from_text(json.loads(data))
    return decide(Path(folder), found, curation)


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """What a data set will hold: shards that are there already, and groups of videos, by name, of
    which each becomes one more."""

    keeps: tuple[Shard, ...]
    groups: tuple[tuple[str, ...], ...]


def plan_clips(farm: Farm, folder: str, curation: Curation, entries: Sequence[Entry]) -> ClipPlan:
    """Which clips are to be put into new shards: those that no shard of the data set holds, and
    those whose shard holds a clip that is no longer wanted."""
    from dreamontage.training.datasets.shards import read_index

    codec = _codec(farm)
    wanted = {entry.key(curation, codec): entry.name for entry in accepted(entries)}
    key = _data_set_key(folder, curation, codec)
    address = farm.repository.curated([key]).get(key)
    data = address and farm.read(address)
    held = read_index(data.decode())[1] if data else ()
    keeps = tuple(
        shard
        for shard in held
        if all(facts.key in wanted for facts in shard.clips) and _is_there(farm, _address(shard))
    )
    packed = {facts.key for shard in keeps for facts in shard.clips}
    unpacked = [name for key, name in wanted.items() if key not in packed]
    groups = tuple(
        tuple(unpacked[at : at + CLIPS_A_SHARD]) for at in range(0, len(unpacked), CLIPS_A_SHARD)
    )
    return ClipPlan(keeps=keeps, groups=groups)


def encode(farm: Farm, folder: str, names: Sequence[str], curation: Curation) -> Iterator[str]:
    """See to it that the clips of a group are encoded, and a shard of them is in the store.

    Yields each name as its clip is done. A clip that was encoded before is not encoded again.
    """
    from dreamontage.training.datasets import shards

    entries = _entries(farm, folder, names, curation)
    codec = _codec(farm)
    group = _group_key(entries, curation, codec)
    if _group_shard(farm, group) is not None:
        yield from names
        return
    clips, parts = [], []
    for entry in entries:
        clip, address = _clip(farm, folder, entry, curation, codec)
        clips.append(clip)
        parts.append(address)
        yield entry.name
    with farm.scratch() as scratch:
        shard = shards.write_shard(scratch, clips)
        address = farm.store.put("shards", scratch / shard.file, shards.SUFFIX)
    shard_json = json.dumps(shard.to_json(), sort_keys=True).encode()
    farm.repository.add_curated(group, farm.store.put("groups", shard_json, ".json"))
    for facts, part in zip(shard.clips, parts, strict=True):
        farm.repository.add_curated(_clip_key(facts.key), address)
        if part.startswith("parts/"):
            farm.store.delete(part)


def _entries(farm: Farm, folder: str, names: Sequence[str], curation: Curation) -> list[Entry]:
    # Not all of the folder's: a run for each of thousands of groups would read them all.
    by_name = {entry.name: entry for entry in judged(farm, folder, curation, names)}
    rejected = [name for name in names if not by_name[name].verdict.accepted]
    if rejected:
        raise RuntimeError(f"{folder} has changed since it was judged: {', '.join(rejected)}")
    return [by_name[name] for name in names]


def _clip(
    farm: Farm, folder: str, entry: Entry, curation: Curation, codec: Codec
) -> tuple[StoredClip, str]:
    """A clip and where it was found, or has been put."""
    from dreamontage.training.curation.encode import EncodeRequest, encode_video
    from dreamontage.training.datasets import shards
    from flows.studio.model import load_autoencoder

    key = entry.key(curation, codec)
    row = _clip_key(key)
    address = farm.repository.curated([row]).get(row)
    with farm.scratch() as scratch:
        file = scratch / "shard"
        if address and _is_there(farm, address):
            farm.store.fetch(address, file)
            for number, facts in enumerate(shards.clips_of(file)):
                if facts.key == key:
                    return shards.read_clip(file, facts, number), address
        vae, _ = load_autoencoder(farm.settings.weights, farm.settings.device, codec.revision)
        wanted = EncodeRequest(
            key=key,
            name=entry.name,
            target=curation.target,
            longest=curation.longest,
            stills_every=curation.stills_every,
        )
        clip = encode_video(vae, Path(folder) / entry.name, entry.found, entry.actions, wanted)
        part = shards.write_shard(scratch, [clip])
        address = farm.store.put("parts", scratch / part.file, shards.SUFFIX)
    farm.repository.add_curated(row, address)
    return clip, address


@dataclass(frozen=True, kw_only=True)
class Published:
    """A data set in the store: where its index is, and how many clips it holds."""

    address: str
    clips: int


def publish(
    farm: Farm, folder: str, curation: Curation, entries: Sequence[Entry], plan: ClipPlan
) -> Published:
    """Put the index of a data set into the store, once all its shards are there.

    Raises:
        RuntimeError: when a group is not encoded.
    """
    from dreamontage.training.datasets.shards import index_text

    codec = _codec(farm)
    by_name = {entry.name: entry for entry in entries}
    shards = list(plan.keeps)
    for names in plan.groups:
        group = _group_key([by_name[name] for name in names], curation, codec)
        shard = _group_shard(farm, group)
        if shard is None:
            raise RuntimeError(f"not encoded yet: {', '.join(names)}")
        shards.append(shard)
    address = farm.store.put("datasets", index_text(codec, shards).encode(), ".json")
    farm.repository.add_curated(_data_set_key(folder, curation, codec), address)
    return Published(address=address, clips=sum(len(shard.clips) for shard in shards))


def fetch_data_set(farm: Farm, address: str, out: Path) -> Path:
    """Copy a data set into a folder that `shards.Dataset` reads; what is there is not copied."""
    from dreamontage.training.datasets.shards import TornShard, check_shard, read_index, write_index

    codec, shards = read_index(farm.store.get(address).decode())
    out.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        try:
            check_shard(out, shard)
        except TornShard:
            farm.store.fetch(_address(shard), out / shard.file)
    write_index(out, codec, shards)
    return out


def _codec(farm: Farm) -> Codec:
    from flows.studio.model import codec_of

    return codec_of(farm.settings.weights)


def _clip_key(key: str) -> str:
    return digest({"clip": key})


def _group_key(entries: Sequence[Entry], curation: Curation, codec: Codec) -> str:
    return digest({"group": [entry.key(curation, codec) for entry in entries]})


def _data_set_key(folder: str, curation: Curation, codec: Codec) -> str:
    return digest(
        {
            "folder": folder,
            "codec": codec.revision,
            "size": [curation.target.width, curation.target.height],
            "fps": str(curation.target.fps),
            "stills_every": curation.stills_every,
        }
    )


def _group_shard(farm: Farm, group: str) -> Shard | None:
    from dreamontage.training.datasets.shards import Shard

    address = farm.repository.curated([group]).get(group)
    data = address and farm.read(address)
    if not data:
        return None
    shard = Shard.from_json(json.loads(data))
    return shard if _is_there(farm, _address(shard)) else None


def _address(shard: Shard) -> str:
    return str(address_of("shards", shard.sha256, ".safetensors"))


def _is_there(farm: Farm, address: str) -> bool:
    try:
        farm.store.stat(address)
    except NotFound:
        return False
    return True
