"""``dreamontage evaluate``: films, scores, tables, sheets and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from dreamontage.evaluation import sheets, show
from dreamontage.evaluation.material import Material
from dreamontage.evaluation.models import described
from dreamontage.evaluation.report import Report, report
from dreamontage.evaluation.store import Store
from dreamontage.evaluation.suite import Folders, Suite, run
from dreamontage.evaluation.tasks import Plan
from dreamontage.planning.geometry import Geometry
from dreamontage.training.synthetic.photos import load_photos


def plan_for(folder: Path, *, clips: int, keyframed: int = 0, photos: Path | None = None) -> Plan:
    """What `dreamontage evaluate` asks for.

    Args:
        folder: of the final model, whose windows the long films are cut by.
        clips: how many films of the main tasks; the others follow.
        keyframed: how many of four keyframes by the final model and its controls, if more.
        photos: a folder of pictures that the worlds' cameras move over in every second film; None
            for worlds alone.

    Raises:
        ValueError: for fewer clips than two, or a folder that holds no model or no pictures.
    """
    if clips < 2:
        raise ValueError(f"--clips = {clips} must be at least 2: an interval needs more than one")
    bank = load_photos(photos) if photos is not None else None
    material = Material(photos_NCHW=bank)
    return Plan(
        clips=clips,
        keyframed=keyframed,
        material=material,
        geometry=Geometry.from_folder(folder),
    )


def evaluate(
    folders: Folders,
    out: Path,
    *,
    plan: Plan,
    device: str = "cpu",
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """Make what is missing, and write `evaluation.json`, `films/` and `sheets/` into a folder.

    Killed and started again, it goes on after the last film that was finished.

    Args:
        tell: done, of how many, what comes next.

    Raises:
        ValueError: for a folder that holds no model.
    """
    started = time.monotonic()
    suite = Suite(folders, plan=plan, device=device)
    store = Store(out / "films")
    found = report(run(suite, store, progress))
    pictures = sheets.draw(suite, store, out / "sheets")
    bank = plan.material.photos_NCHW
    facts = {
        "folders": {name: str(path) for name, path in asdict(folders).items() if path},
        "training": {name: described(path) for name, path in asdict(folders).items() if path},
        "revision": suite.ours.pipe.revision,
        "clips": plan.clips,
        "keyframed": max(plan.clips, plan.keyframed),
        "photos": 0 if bank is None else len(bank),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "films_made": store.made,
        "seconds": round(time.monotonic() - started),
        "sheets": [str(path.relative_to(out)) for path in pictures],
    }
    show.write_json(out / "evaluation.json", found, facts)
    return found
