"""Encoded clips in sharded safetensors, which training draws its windows from.

A data set is a folder (or, on a farm, objects in a store):

    index.json                      the shards with their digests, and every clip's facts
    shard-<12 digits>.safetensors   some clips; named by the first digits of its sha256

A shard holds three tensors for each of its clips, number n:

    n.mean    (Z, L, h, w)  float16  mean of the posterior of the whole clip, as the autoencoder
                                     gives it (not normalised)
    n.logvar  (Z, L, h, w)  bfloat16 log variance; (1, 1, 1, 1) where it is one number everywhere
    n.stills  (K, Z, h, w)  float16  frames encoded alone, as images are at inference

and the clips' facts in its header's metadata, so that an index can be made again from its shards.
Adaptive Tuning needs the stills: a causal autoencoder gives a frame another latent in a film than
alone (DreaMontage, "Adaptive Tuning"). `Facts.stills` says which frames they are.

Everything is written whole or not at all. A shard is read through memory mapping, after its sha256
has been compared with the index.

Shapes: Z latent channels, L latent frames, K stills, h w latent height and width.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamontage.digests import file_digest
from dreamontage.files import publish, write_text
from dreamontage.training.synthetic.captions import Action

FORMAT = "dreamontage-shards-1"
INDEX = "index.json"
SUFFIX = ".safetensors"
_METADATA = "dreamontage"


class TornShard(ValueError):  # noqa: N818 - the name says what was found
    """A shard's bytes differ from the index. It must be fetched or made again."""


class Bucket(NamedTuple):
    """Clips or windows that fit in one batch: latents, latent height, latent width."""

    latents: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a clip besides its latents.

    key: a digest of everything that determines the clip; equal keys, equal clips. source: the
    video's name, and source_digest its sha256. width and height: in pixels, as
    encoded. frames: 1 + 4 (latents - 1). latent_height, latent_width: h and w. stills: the frames
    that are stored alone, in rising order. actions: frames [start, stop) with a caption each.
    """

    key: str
    source: str
    source_digest: str
    fps: Fraction
    width: int
    height: int
    frames: int
    latents: int
    latent_height: int
    latent_width: int
    stills: tuple[int, ...]
    actions: tuple[Action, ...]
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.latents, self.latent_height, self.latent_width)

    def boundaries(self) -> list[int]:
        """The frames at which the clip begins, changes its action, and ends."""
        changes = {frame for action in self.actions for frame in (action.start, action.stop)}
        return sorted({0, self.frames - 1} | {frame for frame in changes if frame < self.frames})

    def to_json(self) -> dict[str, Any]:
        actions = [[action.start, action.stop, action.text] for action in self.actions]
        return {**asdict(self), "fps": str(self.fps), "actions": actions}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError for what `to_json` did not write."""
        try:
            return cls(
                **{
                    **data,
                    "fps": Fraction(data["fps"]),
                    "stills": tuple(data["stills"]),
                    "actions": tuple(
                        Action(start=start, stop=stop, text=text)
                        for start, stop, text in data["actions"]
                    ),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a clip's facts cannot be read: {error!r}") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredClip:
    """One clip, with its latents. See the module for the shapes."""

    facts: Facts
    mean_ZLHW: Tensor
    logvar_ZLHW: Tensor
    stills_KZHW: Tensor

    def __post_init__(self) -> None:
        z, latents, height, width = self.mean_ZLHW.shape
        assert (latents, height, width) == self.facts.bucket
        assert self.facts.frames == 1 + 4 * (latents - 1)
        assert self.logvar_ZLHW.shape in (self.mean_ZLHW.shape, (1, 1, 1, 1))
        assert self.stills_KZHW.shape == (len(self.facts.stills), z, height, width)


@dataclass(frozen=True, kw_only=True)
class Codec:
    """The autoencoder of the latents; the same for all clips of a data set.

    revision: its folder's digest. mean and std: for normalising latents. memoryless: whether a
    latent depends on its own four frames only, so that a stored latent is the same wherever a
    window begins.
    """

    name: str
    revision: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    memoryless: bool

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard's entry in the index."""

    file: str
    sha256: str
    bytes: int
    clips: tuple[Facts, ...]

    def to_json(self) -> dict[str, Any]:
        clips = [facts.to_json() for facts in self.clips]
        return {"file": self.file, "sha256": self.sha256, "bytes": self.bytes, "clips": clips}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "clips": tuple(Facts.from_json(clip) for clip in data["clips"])})


def write_shard(folder: Path, clips: Sequence[StoredClip]) -> Shard:
    """Write a shard of at least one clip into a folder. The same clips give the same file."""
    assert clips
    tensors: dict[str, Tensor] = {}
    for number, clip in enumerate(clips):
        tensors[f"{number}.mean"] = clip.mean_ZLHW.half().cpu().contiguous()
        tensors[f"{number}.logvar"] = clip.logvar_ZLHW.bfloat16().cpu().contiguous()
        tensors[f"{number}.stills"] = clip.stills_KZHW.half().cpu().contiguous()
    data = {"format": FORMAT, "clips": [clip.facts.to_json() for clip in clips]}
    # One entry: the library writes several in any order, and the digest would vary.
    metadata = {_METADATA: json.dumps(data, sort_keys=True)}
    temporary = folder / f".{uuid.uuid4().hex}.part"  # the final name needs the digest
    try:
        save_file(tensors, temporary, metadata=metadata)
        temporary.chmod(0o644)  # the library lets only the owner read it
        sha256, size = file_digest(temporary), temporary.stat().st_size
        file = f"shard-{sha256[:12]}{SUFFIX}"
        publish(temporary, folder / file)
    finally:
        temporary.unlink(missing_ok=True)
    return Shard(file=file, sha256=sha256, bytes=size, clips=tuple(c.facts for c in clips))


def index_text(codec: Codec, shards: Sequence[Shard]) -> str:
    """The text of `index.json`."""
    data = {
        "format": FORMAT,
        "codec": asdict(codec),
        "shards": [shard.to_json() for shard in shards],
    }
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_index(folder: Path, codec: Codec, shards: Sequence[Shard]) -> Path:
    """Write the index, after its shards."""
    text = index_text(codec, shards)
    write_text(folder / INDEX, text)
    return folder / INDEX


def read_index(text: str) -> tuple[Codec, tuple[Shard, ...]]:
    """The codec and the shards of an index. Raises ValueError for a text that is no index."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, not {FORMAT!r}")
        shards = tuple(Shard.from_json(shard) for shard in data["shards"])
        return Codec.from_json(data["codec"]), shards
    except (KeyError, TypeError) as error:
        raise ValueError(f"no index of shards: {error!r}") from None


def check_shard(folder: Path, shard: Shard) -> None:
    """Raises TornShard unless the shard's file exists and its bytes match the index."""
    path = folder / shard.file
    if not path.is_file():
        raise TornShard(f"{path}: is missing; the index names it")
    if path.stat().st_size != shard.bytes or file_digest(path) != shard.sha256:
        raise TornShard(f"{path}: is not what the index says; its sha256 differs")


def read_clip(file: Path, facts: Facts, number: int) -> StoredClip:
    """Read one clip of a shard whole."""
    with safe_open(file, framework="pt") as tensors:
        return StoredClip(
            facts=facts,
            mean_ZLHW=tensors.get_tensor(f"{number}.mean"),
            logvar_ZLHW=tensors.get_tensor(f"{number}.logvar"),
            stills_KZHW=tensors.get_tensor(f"{number}.stills"),
        )


def clips_of(file: Path) -> tuple[Facts, ...]:
    """The facts of the clips that a shard holds, from its own header.

    Raises TornShard when the header cannot be read.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            data = json.loads((tensors.metadata() or {})[_METADATA])
        return tuple(Facts.from_json(clip) for clip in data["clips"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TornShard(f"{file}: is no whole shard ({error})") from None


class Dataset:
    """A folder of shards, to read from.

    `clips` are the facts of all its clips. Tensors are read from disk when they are needed,
    only the needed part. A shard is hashed once, when it is first opened. Each process opens the
    data set for itself.

    Raises ValueError when there is no readable index, and TornShard (also from the methods that
    read) when a shard is missing or differs from the index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / INDEX
        if not path.is_file():
            raise ValueError(f"{folder}: holds no data set: there is no {INDEX} in it")
        try:
            self.codec, self.shards = read_index(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        self._places = [
            (shard, number) for shard in self.shards for number in range(len(shard.clips))
        ]
        self._open: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def clips(self) -> tuple[Facts, ...]:
        return tuple(shard.clips[number] for shard, number in self._places)

    def read(self, index: int) -> StoredClip:
        """A clip, whole."""
        return StoredClip(
            facts=self.clips[index],
            mean_ZLHW=self._tensor(index, "mean")[:],
            logvar_ZLHW=self._tensor(index, "logvar")[:],
            stills_KZHW=self._tensor(index, "stills")[:],
        )

    def posterior(self, index: int, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents [first, stop) of a clip, (Z, stop - first, h, w)."""
        assert 0 <= first < stop <= self.clips[index].latents
        mean_ZLHW = self._tensor(index, "mean")[:, first:stop]
        logvar = self._tensor(index, "logvar")
        if logvar.get_shape()[1] == 1:
            return mean_ZLHW, logvar[:].expand_as(mean_ZLHW)
        return mean_ZLHW, logvar[:, first:stop]

    def still(self, index: int, frame: int) -> Tensor:
        """A frame of a clip, encoded alone, latent_ZHW; it must be one of the clip's stills."""
        return self._tensor(index, "stills")[self.clips[index].stills.index(frame)]

    def windows(self, latents: int) -> dict[Bucket, list[int]]:
        """The clips that are long enough for a window of `latents`, by the window's shape."""
        found: defaultdict[Bucket, list[int]] = defaultdict(list)
        for index, facts in enumerate(self.clips):
            if facts.latents >= latents:
                found[facts.bucket._replace(latents=latents)].append(index)
        return dict(sorted(found.items()))

    def _tensor(self, index: int, name: str) -> Any:
        shard, number = self._places[index]
        return self._whole(shard).get_slice(f"{number}.{name}")

    def _whole(self, shard: Shard) -> Any:
        if shard.file not in self._open:
            path = self.folder / shard.file
            check_shard(self.folder, shard)
            self._open[shard.file] = safe_open(path, framework="pt")
        return self._open[shard.file]


def in_model_units(codec: Codec, latents: Tensor, channel: int) -> Tensor:
    """Latents as the DiT's input: less the mean, times 1/std, as `autoencoder.normalise` does.

    channel: the dimension along which the channels lie.
    """
    shape = [1] * latents.ndim
    shape[channel] = -1
    mean = torch.tensor(codec.mean, device=latents.device).view(shape)
    scale = 1.0 / torch.tensor(codec.std, device=latents.device).view(shape)
    return (latents.float() - mean) * scale
