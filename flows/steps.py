"""What the flows' tasks do, as plain functions: each safe to run twice, none knowing of Prefect.

A take goes through them in this order: plan_take, render_segment for each segment, decode_take,
gate_take; a storyboard ends with assemble.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from db.leases import Lease, LostLease, SegmentSlot
from db.models import Shot, Take
from db.states import DeliverableKind, SegmentState, ShotState, Verdict
from db.takes import ScoreRow
from dreamontage import keys, scorer
from dreamontage.film import ShotFilm, deliver, slug
from dreamontage.intake import condition_label
from dreamontage.plan import Placed, ShotPlan, plan_shot
from dreamontage.seeds import take_seed
from dreamontage.storyboard import Storyboard, loads
from flows.farm import Farm
from storage.address import parse

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]
"""Told after each denoise step: the step, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class PlannedSegment:
    """A segment of a take, by its key."""

    take_id: str
    index: int
    key: str
    steps: int


@dataclass(frozen=True, kw_only=True)
class _Context:
    """A shot as its rows describe it."""

    board: Storyboard
    shot: Shot
    placed: tuple[Placed, ...]
    renditions: tuple[str, ...]  # addresses, in the order of `placed`

    @property
    def fps(self) -> Fraction:
        return self.board.fps


def _context(farm: Farm, shot_id: str) -> _Context:
    shot = farm.repository.shot(shot_id)
    rows = farm.repository.conditions(shot_id)
    return _Context(
        board=board_of(farm, shot.storyboard_id),
        shot=shot,
        placed=tuple(
            Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=row.frames)
            for row in rows
        ),
        renditions=tuple(row.rendition_address for row in rows),
    )


def board_of(farm: Farm, storyboard_id: str) -> Storyboard:
    return loads(farm.repository.storyboard(storyboard_id).document, None)


def _plan(farm: Farm, context: _Context, seed: int) -> ShotPlan:
    return plan_shot(
        frames=context.shot.frames,
        fps=context.fps,
        prompts=context.board.shots[context.shot.index].prompts,
        conditions=context.placed,
        seed=seed,
        geometry=farm.geometry,
    )


def _sampler(farm: Farm, board: Storyboard) -> dict[str, int | float]:
    """The sampler's settings as they are used: the storyboard's, else the model's own."""
    own, facts = board.sampler, farm.facts
    return {
        "steps": facts.default_steps if own.steps is None else own.steps,
        "guidance": facts.default_guidance if own.guidance is None else own.guidance,
    }


def plan_take(farm: Farm, shot_id: str, attempt: int) -> list[PlannedSegment]:
    """Begin a take: its seed, its segments and their keys. Reads no model, only its revision."""
    context = _context(farm, shot_id)
    seed = take_seed(context.shot.seed, attempt)
    take = farm.repository.start_take(shot_id, attempt, seed)
    sampler = _sampler(farm, context.board)
    steps = int(sampler["steps"])
    digests = [parse(address).digest for address in context.renditions]
    slots: list[SegmentSlot] = []
    for segment in _plan(farm, context, seed).segments:
        key = keys.segment_key(
            model_revision=farm.revision,
            segment=segment,
            conditions=keys.window_conditions(segment, context.placed, digests),
            width=context.board.size.width,
            height=context.board.size.height,
            negative_prompt=context.board.negative_prompt,
            sampler=sampler,
            previous=slots[-1].key if slots else None,
        )
        slots.append(
            SegmentSlot(
                index=segment.index,
                key=key,
                steps=steps,
                start=segment.start,
                stop=segment.stop,
                tail=segment.tail,
            )
        )
    farm.repository.set_take_segments(take.id, slots)
    farm.repository.set_shot_state(shot_id, ShotState.RENDERING)
    return [
        PlannedSegment(take_id=take.id, index=slot.index, key=slot.key, steps=steps)
        for slot in slots
    ]


def render_segment(
    farm: Farm,
    planned: PlannedSegment,
    *,
    progress: Progress = lambda step, steps: None,
    waiting: Callable[[str], None] = lambda holder: None,
) -> int:
    """See to it that a segment's latents are in the store; returns how many steps this call ran.

    A finished segment costs nothing, whoever finished it. One that another worker holds is waited
    for, and taken over from its last checkpoint when that worker's lease runs out. ``waiting`` is
    told whom it waits for.

    Raises:
        LostLease: when this worker was too slow to keep its lease. Running it again is right.
    """
    repository, settings = farm.repository, farm.settings
    told = ""
    while True:
        row = repository.segment(planned.key)
        if row.state is SegmentState.DONE:
            return 0
        lease = repository.claim_segment(planned.key, farm.holder, settings.lease_ttl)
        if lease is not None:
            break
        if row.lease_holder and row.lease_holder != told:
            told = row.lease_holder
            waiting(told)
        time.sleep(min(1.0, settings.heartbeat_seconds))
    try:
        with _beating(farm, lease):
            return _denoise(farm, planned, lease, progress)
    except LostLease:
        raise
    except BaseException as error:
        # Also on cancellation: the next worker need not wait for the lease to run out.
        _give_up(farm, lease, error)
        raise


def _give_up(farm: Farm, lease: Lease, error: BaseException) -> None:
    try:
        if isinstance(error, Exception):
            farm.repository.fail_segment(lease, f"{type(error).__name__}: {error}")
        else:
            farm.repository.release(lease)
    except LostLease:
        pass  # somebody else has it, which is what giving up is for


@contextmanager
def _beating(farm: Farm, lease: Lease) -> Iterator[None]:
    """Renew the lease from a thread of its own: a denoise step may take longer than the lease."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(farm.settings.heartbeat_seconds):
            try:
                farm.repository.heartbeat(lease, farm.settings.lease_ttl)
            except LostLease:
                return  # the next write finds out, and says so
            except Exception:
                continue

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _denoise(farm: Farm, planned: PlannedSegment, lease: Lease, progress: Progress) -> int:
    # torch and the model come in here, not with the module: planning and assembly need neither.
    from safetensors.torch import save

    from dreamontage.sampling import state_from_bytes, state_to_bytes
    from dreamontage.take import load_condition
    from flows.model import load

    take = farm.repository.take(planned.take_id)
    context = _context(farm, take.shot_id)
    segment = _plan(farm, context, take.seed).segments[planned.index]
    pipe = load(farm.settings.weights, farm.settings.device)
    size = context.board.size
    with farm.scratch() as folder:
        conditions = [
            load_condition(
                context.placed[index],
                farm.store.fetch(context.renditions[index], folder / f"{index}"),
            )
            for index in segment.conditions
        ]
    track = pipe.track(conditions, size.height, size.width)
    previous_BCLHW = None
    if segment.tail:
        slots = farm.repository.take_segments(take.id)
        previous_BCLHW = latents_of(farm, slots[segment.index - 1].key)
    state = None
    if lease.checkpoint_address is not None:
        state = state_from_bytes(farm.store.get(lease.checkpoint_address))
    sampler = _sampler(farm, context.board)
    states = pipe.denoise_segment(
        segment,
        track=track,
        previous_BCLHW=previous_BCLHW,
        height=size.height,
        width=size.width,
        sampler=pipe.sampler(int(sampler["steps"]), sampler["guidance"]),
        negative_prompt=context.board.negative_prompt,
        state=state,
    )
    saved = run = 0
    superseded = lease.checkpoint_address
    for state in states:
        run += 1
        progress(state.step, state.total)
        if not state.done and state.step % farm.settings.checkpoint_every == 0:
            address = farm.store.put("checkpoints", state_to_bytes(state), ".safetensors")
            farm.repository.save_checkpoint(lease, address, state.step, steps_run=run - saved)
            saved = run
            if superseded is not None:
                farm.store.delete(superseded)
            superseded = address
    assert state is not None, "a checkpoint is never of the last step"
    latents = state.latents_BCLHW.float().cpu().contiguous()
    address = farm.store.put("latents", save({"latents": latents}), ".safetensors")
    farm.repository.finish_segment(lease, address, steps_run=run - saved)
    if superseded is not None:
        farm.store.delete(superseded)
    return run


def latents_of(farm: Farm, key: str) -> Tensor:
    """A finished segment's latents, latents_BCLHW."""
    from safetensors.torch import load

    row = farm.repository.segment(key)
    assert row.latents_address is not None, f"segment {key} is not finished"
    return load(farm.store.get(row.latents_address))["latents"]


def decode_take(farm: Farm, take_id: str) -> str:
    """Fuse and decode a take's segments into its mezzanine; returns that one's address."""
    from dreamontage.take import write_take
    from flows.model import load

    take = farm.repository.take(take_id)
    if take.mezzanine_address is not None:
        return take.mezzanine_address
    context = _context(farm, take.shot_id)
    slots = farm.repository.take_segments(take_id)
    segments = _plan(farm, context, take.seed).segments
    pipe = load(farm.settings.weights, farm.settings.device)
    with farm.scratch() as folder:
        film = write_take(
            pipe.vae,
            (
                (segment, latents_of(farm, slot.key))
                for segment, slot in zip(segments, slots, strict=True)
            ),
            folder / "take.mkv",
            frames=context.shot.frames,
            width=context.board.size.width,
            height=context.board.size.height,
            fps=context.fps,
        )
        address = farm.store.put("takes", film, ".mkv")
    farm.repository.finish_take(take_id, address)
    return address


def next_attempt(farm: Farm, shot_id: str) -> int:
    """Which take to render: the one that was begun, or the next one if that was sent back."""
    takes = farm.repository.takes(shot_id)
    if not takes:
        return 0
    return takes[-1].attempt + (takes[-1].verdict is Verdict.RETAKE)


def takes_allowed(farm: Farm) -> int:
    """How many takes a shot may cost. Barely trained weights get one: what they fail at, they
    fail at with every seed."""
    return 1 if farm.facts.smoke else farm.settings.max_takes


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the gate found in a take."""

    verdict: Verdict
    reasons: Sequence[str]
    scores: Sequence[ScoreRow]


def gate_take(farm: Farm, take_id: str, *, takes_left: int) -> Judged:
    """Measure a decoded take, judge it by the farm's thresholds, and store both."""
    take = farm.repository.take(take_id)
    assert take.mezzanine_address is not None, "a take is decoded before it is judged"
    context = _context(farm, take.shot_id)
    with farm.scratch() as folder:
        film = scorer.Film(
            path=farm.store.fetch(take.mezzanine_address, folder / "take.mkv"),
            fps=context.fps,
            marks=tuple(
                scorer.Mark(
                    frame=placed.frame,
                    frames=placed.frames,
                    picture=farm.store.fetch(address, folder / f"condition{placed.index}"),
                    label=condition_label(placed, context.fps),
                )
                for placed, address in zip(context.placed, context.renditions, strict=True)
            ),
            joins=_plan(farm, context, take.seed).joins,
        )
        scores = scorer.measure(film)
    thresholds = [
        scorer.Threshold(
            name=row.name,
            retake_below=row.retake_below,
            retake_above=row.retake_above,
            review_below=row.review_below,
            review_above=row.review_above,
        )
        for row in farm.repository.thresholds()
    ]
    judgement = scorer.judge(scores, thresholds, takes_left=max(0, takes_left), fps=context.fps)
    rows = [
        ScoreRow(name=score.name, value=score.value, frame=score.frame, detail=score.detail)
        for score in scores
    ]
    farm.repository.add_scores(take_id, rows)
    verdict = Verdict(judgement.verdict.value)
    farm.repository.set_verdict(take_id, verdict, judgement.reasons)
    return Judged(verdict=verdict, reasons=judgement.reasons, scores=rows)


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A film whose deliverables are in the store."""

    title: str
    sheet_png: bytes
    for_review: bool


def assemble(farm: Farm, storyboard_id: str) -> Assembled:
    """Join the shots' takes into the film, and store it with its sheet and its record."""
    repository, store = farm.repository, farm.store
    storyboard = repository.storyboard(storyboard_id)
    board = board_of(farm, storyboard_id)
    takes = [_chosen(repository.takes(shot.id)) for shot in repository.shots(storyboard_id)]
    with farm.scratch() as folder:
        shots = []
        for index, take in enumerate(takes):
            assert take.mezzanine_address is not None, "assembly comes after decoding"
            context = _context(farm, take.shot_id)
            shots.append(
                ShotFilm(
                    mezzanine=store.fetch(take.mezzanine_address, folder / f"{index}.mkv"),
                    frames=context.shot.frames,
                    conditions=context.placed,
                )
            )
        name = "-".join(filter(None, (slug(board.title), storyboard.variant, storyboard_id)))
        made = deliver(
            board,
            shots,
            folder,
            name=name,
            smoke=farm.facts.smoke,
            record={
                "id": storyboard_id,
                "variant": storyboard.variant,
                "model": {"folder": farm.settings.weights.name, "revision": farm.revision},
                "sampler": _sampler(farm, board),
                "shots": [_told(farm, take) for take in takes],
            },
        )
        for kind, path in (
            (DeliverableKind.FILM, made.film),
            (DeliverableKind.SHEET, made.sheet),
            (DeliverableKind.RECORD, made.record),
        ):
            repository.add_deliverable(
                storyboard_id,
                kind,
                address=store.put("deliverables", path, path.suffix),
                size=path.stat().st_size,
                info={"name": path.name},
            )
        return Assembled(
            title=board.title,
            sheet_png=made.sheet.read_bytes(),
            for_review=any(take.verdict is not Verdict.PASS for take in takes),
        )


def _chosen(takes: Sequence[Take]) -> Take:
    """The take that goes into the film: the latest that passed, else the latest."""
    passed = [take for take in takes if take.verdict is Verdict.PASS]
    return (passed or list(takes))[-1]


def _told(farm: Farm, take: Take) -> dict[str, object]:
    """A take as the film's record has it: all that determined it, and how it was judged."""
    context = _context(farm, take.shot_id)
    return {
        "name": context.shot.name,
        "frames": context.shot.frames,
        "take": take.attempt,
        "seed": take.seed,
        "verdict": take.verdict and take.verdict.value,
        "reasons": list(take.reasons),
        "scores": [
            {"name": score.name, "value": score.value, "frame": score.frame}
            for score in farm.repository.scores(take.id)
        ],
        "segments": [
            {"key": slot.key, "start": slot.start, "stop": slot.stop, "tail": slot.tail}
            for slot in farm.repository.take_segments(take.id)
        ],
        "conditions": [
            {
                "kind": row.kind.value,
                "frame": row.frame,
                "frames": row.frames,
                "asset": row.asset,
                "rendition": row.rendition_address,
                "made_by": row.rendition_spec,
            }
            for row in farm.repository.conditions(take.shot_id)
        ],
    }
