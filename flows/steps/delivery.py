"""Assembling a storyboard's takes into the film that is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.models import Take
from db.states import DeliverableKind, Verdict
from dreamontage.delivery.film import ShotFilm, shot_notes, slug
from dreamontage.models.machine import machine_kind
from dreamontage.rendering.delivery import deliver
from dreamontage.rendering.record import (
    FilmRecord,
    ModelRecord,
    ShotRecord,
    condition_record,
    draft_record,
    film_record,
    model_record,
    score_records,
    upscale_record,
    window_records,
)
from dreamontage.rendering.take_plan import Stage
from flows.steps.shots import board_of, context_of, settings_of, smoke, upscaler_of
from flows.steps.takes import fetch_mezzanine
from flows.studio.farm import Farm
from storage.address import parse


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A film whose deliverables are in the store."""

    title: str
    sheet_png: bytes
    for_review: bool


def assemble(farm: Farm, storyboard_id: str) -> Assembled:
    """Join the shots' takes into the film, and store it with its sheet and its record.

    Raises:
        LostFrames: when a take's frames are not in the store any more.
    """
    repository, store = farm.repository, farm.store
    storyboard = repository.storyboard(storyboard_id)
    board = board_of(farm, storyboard_id)
    takes = [_chosen(repository.takes(shot.id)) for shot in repository.shots(storyboard_id)]
    assert len(takes) == len(board.shots), "a storyboard is stored with all of its shots"
    with farm.scratch() as folder:
        shots = []
        for index, take in enumerate(takes):
            context = context_of(farm, take.shot_id)
            shots.append(
                ShotFilm(
                    mezzanine=fetch_mezzanine(farm, take, folder / f"{index}.mkv"),
                    frames=context.shot.frames,
                    conditions=context.placed,
                    notes=shot_notes(context.storyboard_shot),
                )
            )
        name = "-".join(filter(None, (slug(board.title), storyboard.variant, storyboard_id)))

        def record(film: str) -> FilmRecord:
            return film_record(
                board,
                film=film,
                smoke=smoke(farm, board),
                model=_model_record(farm, Stage.BASE),
                sampler=settings_of(farm, board).sampler,
                upscale=None
                if board.upscale is None
                else upscale_record(
                    board,
                    upscaler_of(farm, board),
                    model=_model_record(farm, Stage.UPSCALE),
                    sampler=settings_of(farm, board, Stage.UPSCALE).sampler,
                ),
                shots=[_shot_record(farm, take) for take in takes],
                storyboard_id=storyboard_id,
                variant=storyboard.variant,
            )

        made = deliver(board, shots, folder, name=name, smoke=smoke(farm, board), record=record)
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


def _model_record(farm: Farm, stage: Stage) -> ModelRecord:
    model = farm.model(stage)
    machine = machine_kind(farm.settings.device)
    return model_record(model.folder.name, model.render_revision, machine, model.options)


def _shot_record(farm: Farm, take: Take) -> ShotRecord:
    context = context_of(farm, take.shot_id)
    shot, slots = context.shot, farm.repository.take_segments(take.id)
    windows = {
        stage: window_records((slot.key, slot) for slot in slots if slot.stage.value == stage.value)
        for stage in Stage
    }
    return ShotRecord(
        name=shot.name,
        frames=shot.frames,
        loop=context.storyboard_shot.loop,
        draft=draft_record(
            context.storyboard_shot,
            asset=shot.draft_asset,
            rendition=shot.draft_address and parse(shot.draft_address).digest,
            spec=shot.draft_spec,
        ),
        take=take.attempt,
        seed=take.seed,
        verdict=None if take.verdict is None else take.verdict.value,
        reasons=list(take.reasons),
        scores=score_records(farm.repository.scores(take.id)),
        coarse=windows[Stage.COARSE] or None,
        segments=windows[Stage.BASE],
        upscaled=windows[Stage.UPSCALE] or None,
        conditions=[
            condition_record(
                placed,
                asset=row.asset,
                rendition=parse(row.rendition_address).digest,
                spec=row.rendition_spec,
                target=None
                if row.target_address is None
                else (parse(row.target_address).digest, row.target_spec or {}),
            )
            for placed, row in zip(
                context.placed, farm.repository.conditions(take.shot_id), strict=True
            )
        ],
    )
