"""Who makes which films, and what they score.

The untrained model and another take of ours make every third film: they are there to show what
nothing scores, and how far the judge tells two alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dreamontage.evaluation import names
from dreamontage.evaluation.measures import Scores
from dreamontage.evaluation.methods import (
    BlurredCrossFade,
    CodecRoundTrip,
    CrossFade,
    Method,
    OpticalFlow,
    Truth,
)
from dreamontage.evaluation.models import (
    Bicubic,
    Concatenation,
    Model,
    PixelHandover,
    Refined,
    SmallFilms,
    joins_of,
    untrained,
)
from dreamontage.evaluation.store import Store
from dreamontage.evaluation.tasks import Kind, Plan, Task

SPARSE = 3
"""Every so manyth film is made by these two. Odd, since worlds and photos take turns."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The models. `ours` is the final one; the others are the stages before it, where stored.

    untuned: the base before adaptive tuning. sr: a super-resolution model.
    """

    ours: Path
    untuned: Path | None = None
    adaptive: Path | None = None
    expression: Path | None = None
    sr: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    method: Method
    task: Task
    joins: tuple[int, ...] = ()


@dataclass(kw_only=True)
class Results:
    """Scores by kind, method and task; the tasks themselves; and what there was no folder for."""

    scores: dict[Kind, dict[str, dict[int, Scores]]] = field(default_factory=dict)
    tasks: dict[Kind, list[Task]] = field(default_factory=dict)

    def of(self, kind: Kind, method: str) -> dict[int, Scores]:
        """By the task's index; empty where the method made none."""
        return self.scores.get(kind, {}).get(method, {})

    def pairs(self, kind: Kind, mine: str, theirs: str) -> tuple[list[Scores], list[Scores]]:
        """Both methods' scores on the tasks that both have."""
        a, b = self.of(kind, mine), self.of(kind, theirs)
        both = sorted(a.keys() & b.keys())
        return [a[index] for index in both], [b[index] for index in both]


class Suite:
    """The models loaded, the tasks drawn, and what is to be filmed."""

    def __init__(self, folders: Folders, *, plan: Plan, device: str) -> None:
        """Raises ValueError for a folder that holds no model."""
        self.plan = plan
        self.ours = Model.load(names.OURS, folders.ours, device)
        self.untrained = untrained(Model.load(names.UNTRAINED, folders.ours, device).pipe)
        stages = {
            names.UNTUNED: folders.untuned,
            names.ADAPTIVE: folders.adaptive,
            names.EXPRESSION: folders.expression,
        }
        self.stages = {
            name: Model.load(name, folder, device) for name, folder in stages.items() if folder
        }
        self.sr = Model.load("sr", folders.sr, device) if folders.sr else None
        vae, revision = self.ours.pipe.vae, self.ours.pipe.revision
        self.truth, flow = Truth(), OpticalFlow()
        self.codec = CodecRoundTrip(names.CODEC, self.truth, vae, revision)
        codec_flow = CodecRoundTrip(names.FLOW_CODEC, flow, vae, revision)
        self.controls: list[Method] = [self.truth, self.codec]
        self.controls += [CrossFade(), BlurredCrossFade(), flow, codec_flow]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every film, those of one task after each other."""
        every = [*self.controls, self.ours]
        untuned, tuned = self._stages(names.UNTUNED), self._stages(names.ADAPTIVE, names.EXPRESSION)
        # Nobody asks what adaptive tuning does for clips where there is nothing to compare it with.
        clipped = [*untuned, *self._stages(names.ADAPTIVE)] if untuned else []
        rare: list[Method] = [self.untrained]
        again = Model(names.AGAIN, self.ours.pipe, take=1)
        four = self.plan.four()
        asked, changed = self.plan.prompts()
        answers: list[Method] = [self.truth, self.codec, CrossFade(), self.ours]
        return [
            *_film(self.plan.first_last(), every, rare),
            *_film(
                four[: self.plan.clips],
                [*every, Concatenation(self.ours), *tuned, *untuned],
                [*rare, again],
            ),
            *_film(four[self.plan.clips :], every),
            *_film(asked, [*answers, *tuned], rare),
            *_film(changed, answers, rare),
            *_film(self.plan.clip_to_clip(), [*every, *clipped]),
            *_film(self.plan.extension(), [*every, *clipped]),
            *self._long(),
            *self._large(),
        ]

    def _stages(self, *wanted: str) -> list[Method]:
        return [self.stages[name] for name in wanted if name in self.stages]

    def _long(self) -> Iterator[Job]:
        pixels = PixelHandover(self.ours)
        for task in (*self.plan.long_free(), *self.plan.long_keyed()):
            joins = joins_of(task, self.plan.geometry)
            for method in (self.truth, self.codec, self.ours):
                yield Job(method=method, task=task, joins=joins)
            if task.kind is Kind.LONG_FREE:
                yield Job(method=pixels, task=task, joins=pixels.joins(task))

    def _large(self) -> Iterator[Job]:
        if self.sr is not None:
            small = SmallFilms(self.ours)
            refined = [Refined(small, self.sr.pipe, shared_rope=on) for on in (True, False)]
            yield from _film(self.plan.large(), [self.truth, Bicubic(small), *refined])


def _film(
    tasks: Sequence[Task],
    methods: Sequence[Method],
    rare: Sequence[Method] = (),
) -> Iterator[Job]:
    """Every method films every task, but the rare ones only each SPARSEth."""
    for number, task in enumerate(tasks):
        for method in (*methods, *(rare if number % SPARSE == 0 else ())):
            yield Job(method=method, task=task)


def run(suite: Suite, store: Store, progress: Callable[[int, int, str], None]) -> Results:
    """Make and measure what the store does not hold yet. `tell`: done, of how many, what next."""
    results = Results()
    for number, job in enumerate(suite.jobs):
        task, name = job.task, job.method.name
        progress(number, len(suite.jobs), f"{task.kind} {task.index}: {name}")
        results.scores.setdefault(task.kind, {}).setdefault(name, {})[task.index] = store.scores(
            job.method, task, job.joins
        )
        known = results.tasks.setdefault(task.kind, [])
        if task not in known:
            known.append(task)
    progress(len(suite.jobs), len(suite.jobs), "done")
    return results
