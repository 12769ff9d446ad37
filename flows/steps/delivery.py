"""Assembling a storyboard's takes into the film that is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.models import Take
from db.states import DeliverableKind, Verdict
from dreamontage.film import ShotFilm, deliver, slug
from flows.farm import Farm
from flows.steps.shots import board_of, context_of, sampler_of


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
            context = context_of(farm, take.shot_id)
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
                "sampler": sampler_of(farm, board),
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
    context = context_of(farm, take.shot_id)
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
