"""A storyboard rendered in this process, with no server: what ``dreamontage render`` does.

Finished segments are kept beside the film under their keys, so that a render that was stopped, or
whose end was edited, goes on where the two agree.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dreamontage import scorer, speed, strength
from dreamontage.faults import Fault, StoryboardError
from dreamontage.film import (
    Deliverables,
    ShotFilm,
    ToldCondition,
    deliver,
    shot_notes,
    told_draft,
    told_shot,
    told_upscale,
)
from dreamontage.intake import condition_label, file_digest, of_shot, take_in, take_in_drafts
from dreamontage.kept import ATTEMPT, KeptShot, Model, Progress, Refiner
from dreamontage.models import autoencoder
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.plan import model_faults
from dreamontage.sampling import entry
from dreamontage.speed import SpeedOptions
from dreamontage.storyboard import Storyboard
from dreamontage.upscale.model import faults as upscale_faults
from dreamontage.upscale.stage import sr_model


def render(
    board: Storyboard,
    base: Path,
    folder: Path,
    pipe: DreaMontagePipeline,
    *,
    sr: DreaMontagePipeline | None = None,
    name: str,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Deliverables, list[scorer.Judgement]]:
    """Render a film into ``folder``: one take a shot, judged but not retaken.

    Args:
        sr: the super-resolution model, for a storyboard with ``upscale``.

    Raises:
        StoryboardError: with every asset that cannot be used, and what these models cannot render,
            before anything is rendered.
        ValueError: for so few steps of the super-resolution model that none has the noise level
            of its strength.
    """
    model = Model(
        pipe=pipe,
        sampler=pipe.sampler(
            board.sampler.steps,
            board.sampler.guidance,
            image_guidance=board.sampler.image_guidance,
        ),
        negative_prompt=board.negative_prompt,
    )
    refiner, unrefined = _refiner(board, pipe, sr)
    faults = [
        *model_faults(board, pipe.geometry),
        *unrefined,
        *strength.faults(board, pipe.scheduler, model.sampler.steps),
    ]
    if faults:
        raise StoryboardError(faults)
    kept = folder / "segments"
    kept.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="dreamontage-") as scratch:
        work = Path(scratch)
        renditions = take_in(
            board, base, work, progress=lambda asset: progress(f"taking in {asset}", 0, 1)
        )
        drafts = take_in_drafts(
            board, base, work, progress=lambda asset: progress(f"taking in {asset}", 0, 1)
        )
        shots, judgements, told = [], [], []
        for index, wanted in enumerate(board.shots):
            one = KeptShot(
                board,
                index,
                renditions=of_shot(renditions, index),
                animatic=drafts.get(index),
                model=model,
                sr=refiner,
                folder=kept,
                progress=progress,
            )
            mezzanine = one.write(work / f"shot{index}.mkv")
            shots.append(
                ShotFilm(
                    mezzanine=mezzanine,
                    frames=one.frames,
                    conditions=one.placed,
                    notes=shot_notes(wanted),
                )
            )
            scores = scorer.measure(_film(one, mezzanine))
            judgement = scorer.judge(scores, takes_left=0, fps=board.fps)
            judgements.append(judgement)
            told.append(_told(one, judgement, scores))
        progress("writing the film", 0, 1)
        made = deliver(
            board,
            shots,
            folder,
            name=name,
            smoke="smoke" in [each.pipe.config.maturity for each in (model, refiner) if each],
            record={
                "model": _told_model(model),
                "sampler": model.maker.sampler,
                "upscale": refiner
                and told_upscale(
                    board,
                    refiner.upscaler,
                    model=_told_model(refiner),
                    sampler=refiner.maker.sampler,
                ),
                "shots": told,
            },
        )
    return made, judgements


def _refiner(
    board: Storyboard, pipe: DreaMontagePipeline, sr: DreaMontagePipeline | None
) -> tuple[Refiner | None, list[Fault]]:
    """What enlarges the film, if the storyboard asks for it, or why it cannot be done."""
    if board.upscale is None or sr is None:
        return None, upscale_faults(board, None, autoencoder="")
    told = sr_model(sr, "the model given")
    if faults := upscale_faults(board, told, autoencoder=autoencoder.revision(pipe.vae)):
        return None, faults
    upscaler, sampler = told.upscaler(board.upscale), sr.sampler()
    entry(sr.scheduler, sampler.steps, upscaler.strength)
    refiner = Refiner(
        pipe=sr, sampler=sampler, negative_prompt=board.negative_prompt, upscaler=upscaler
    )
    return refiner, []


def _told_model(model: Model) -> dict[str, Any]:
    return {
        "revision": model.maker.revision,
        "machine": model.maker.machine,
        "speed": speed.told(getattr(model.pipe, "speed", SpeedOptions())),
    }


def _film(one: KeptShot, mezzanine: Path) -> scorer.Film:
    """The take as the gate sees it."""
    return scorer.Film(
        path=mezzanine,
        fps=one.board.fps,
        marks=tuple(
            scorer.Mark(
                frame=each.placed.frame,
                frames=each.placed.frames,
                picture=each.shown.path,
                label=condition_label(each.placed, one.board.fps),
            )
            for each in one.renditions
        ),
        joins=one.joins,
        loop=one.plan.loop,
    )


def _told(one: KeptShot, judgement: scorer.Judgement, scores: Any) -> dict[str, Any]:
    """The shot as the record has it."""
    made = one.animatic
    return told_shot(
        name=one.board.shot_name(one.index),
        frames=one.frames,
        loop=one.plan.loop,
        draft=told_draft(
            one.wanted,
            asset=None if made is None else file_digest(made.asset),
            rendition=None if made is None else made.digest,
            spec=None if made is None else dict(made.spec),
        ),
        attempt=ATTEMPT,
        seed=one.seed,
        segments=one.keys,
        upscaled=one.upscaled_keys,
        conditions=[
            ToldCondition(
                placed=each.placed,
                asset=file_digest(each.asset),
                rendition=each.digest,
                spec=each.spec,
                target=None if each.target is None else (each.target.digest, each.target.spec),
            )
            for each in one.renditions
        ],
        verdict=judgement.verdict.value,
        reasons=judgement.reasons,
        scores=scores,
    )
