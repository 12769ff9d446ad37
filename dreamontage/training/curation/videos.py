"""Which files of a folder are measured, and the decision about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dreamontage.digests import digest
from dreamontage.training.curation import sidecar
from dreamontage.training.curation.judge import Limits, Rule, Verdict, judge
from dreamontage.training.curation.likeness import Embedder, Layout
from dreamontage.training.curation.measure import Measurement, Measures, Pose
from dreamontage.training.curation.quality import Judge
from dreamontage.training.curation.target import Target
from dreamontage.training.synthetic.captions import Action

if TYPE_CHECKING:
    from dreamontage.training.datasets.shards import Codec

# fmt: off
SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".mpg", ".mpeg",
    ".m2v", ".ts", ".m2ts", ".mts", ".mxf", ".ogv", ".flv", ".wmv", ".asf",
    ".3gp", ".3g2", ".gif", ".y4m", ".mp3", ".m4a", ".ogg", ".wma",
))
# fmt: on
"""Files that are measured. Sound is among them, so that a video without pictures is reported."""


@dataclass(frozen=True, kw_only=True)
class Curation:
    """All settings of a run. See `Target`, `Limits` and `Measures` for theirs.

    longest: seconds of a video that are measured and encoded. stills_every: see `encode.Wanted`.
    """

    target: Target = field(default_factory=Target)
    limits: Limits = field(default_factory=Limits)
    longest: float = 120.0
    stills_every: int = 4
    embed: Embedder = field(default_factory=Layout)
    judge: Judge | None = None
    pose: Pose | None = None

    @property
    def measures(self) -> Measures:
        return Measures(
            fps=self.target.fps,
            longest=self.longest,
            side=self.target.side,
            embed=self.embed,
            judge=self.judge,
            pose=self.pose,
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One video of the folder, and its result. `name` is its path within the folder."""

    name: str
    found: Measurement
    verdict: Verdict
    actions: tuple[Action, ...] = ()

    def key(self, curation: Curation, codec: Codec) -> str:
        """A digest of everything that determines the stored clip."""
        width, height = curation.target.size_for(self.found.width, self.found.height)
        return digest(
            {
                "video": self.found.digest,
                "codec": codec.revision,
                "size": [width, height],
                "fps": str(curation.target.fps),
                "longest": curation.longest,
                "stills_every": curation.stills_every,
                "scores": dict(self.found.scores),
                "actions": [[each.start, each.stop, each.text] for each in self.actions],
                "name": self.name,
            }
        )


def find_videos(folder: Path, *, but: Path | None = None) -> list[str]:
    """Every file that may be a video, also in folders below, by name; none under `but`.

    Raises ValueError when there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and (but is None or but.resolve() not in path.resolve().parents)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not names:
        raise ValueError(f"{folder}: holds no videos")
    return names


def decide(folder: Path, found: Mapping[str, Measurement], curation: Curation) -> list[Entry]:
    """The verdict on every video, in the order of their names; with actions if accepted."""
    seen: dict[str, str] = {}
    entries = []
    for name in sorted(found):
        measurement = found[name]
        verdict = judge(
            measurement,
            curation.limits,
            target=curation.target,
            alike=curation.embed.alike,
            seen=seen,
        )
        if measurement.fault is None:
            seen.setdefault(measurement.digest, name)
        entry = Entry(name=name, found=measurement, verdict=verdict)
        entries.append(_with_actions(folder, entry, curation) if verdict.accepted else entry)
    return entries


def _with_actions(folder: Path, entry: Entry, curation: Curation) -> Entry:
    try:
        file = sidecar.find(folder / entry.name)
        actions = sidecar.captions_to_actions(
            None if file is None else sidecar.read(file),
            entry.found.actions,
            frames=entry.found.frames,
            fps=curation.target.fps,
        )
    except (ValueError, OSError) as error:
        verdict = Verdict(rule=Rule.CAPTIONED, reason=str(error))
        return replace(entry, verdict=verdict)
    return replace(entry, actions=tuple(actions))


def accepted(entries: Sequence[Entry]) -> list[Entry]:
    """The videos that no rule dropped."""
    return [entry for entry in entries if entry.verdict.accepted]
