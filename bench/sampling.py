"""How is a model best sampled? ``python -m bench.sampling [FOLDER] --as NAME=VALUE,... --as ...``

Films at four keyframes, none of them the evaluation's, with each of the settings given, by their
names in the model's ``model_index.json``: ``--as default_steps=4``, or
``--as default_image_guidance=1,initial_noise_scale=1``, or ``--as ''`` for its own. The judge sets
them beside optical flow through the codec, and beside the first of them, film by film. Killed and
started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dreamontage.evaluation import judge, names
from dreamontage.evaluation.evaluate import plan_for
from dreamontage.evaluation.methods import CodecRoundTrip, OpticalFlow
from dreamontage.evaluation.models import Model
from dreamontage.evaluation.statistics import bootstrap
from dreamontage.evaluation.store import Store
from dreamontage.models.folder import current_names

ROOT = Path(__file__).parents[1]
FIRST = 200
"""The number of the first film: the evaluation's go from 0 on."""

SHOWN = ("motion", "motion_error", "motion_amount", "flicker", "sharpness", "fidelity")


def read_settings(text: str) -> dict[str, Any]:
    """``a=1,b=null`` as a mapping; values are JSON's. Raises ValueError for what is none."""
    pairs = [each.partition("=") for each in text.split(",") if each]
    return current_names({name: json.loads(value) for name, _, value in pairs})


def model_with_sampler(folder: Path, settings: Mapping[str, Any]) -> Model:
    """The folder's model, sampled in this way."""
    model = Model.load(names.OURS, folder, "cpu")
    unknown = settings.keys() - model.pipe.config.keys()
    if unknown:
        raise ValueError(f"{folder}: its model_index.json has no {', '.join(sorted(unknown))}")
    model.pipe.register_to_config(**settings)
    model.revision += f" {json.dumps(dict(settings), sort_keys=True)}"
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "weights" / "nano")
    parser.add_argument("--as", dest="settings", action="append", default=[], type=read_settings)
    parser.add_argument("--films", type=int, default=32)
    parser.add_argument("--photos", type=Path, default=ROOT / "examples" / "assets")
    parser.add_argument("--out", type=Path, default=Path("out/sampling"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    plan = plan_for(arguments.folder, clips=FIRST + arguments.films, photos=arguments.photos)
    tasks = plan.four()[FIRST:]
    store = Store(arguments.out)
    own = model_with_sampler(arguments.folder, {})
    flow = CodecRoundTrip(names.FLOW_CODEC, OpticalFlow(), own.pipe.vae, own.pipe.revision)
    shown = Table(
        *("sampled", "wins/ties/losses", "lead", "more than the first row's", *SHOWN),
        title=f"{arguments.films} films at four keyframes, beside {names.FLOW_CODEC}",
        caption="lead: the judge's overall one, in margins, the mean over films",
    )
    first_N = np.zeros(len(tasks))
    for number, settings in enumerate(arguments.settings or [{}]):
        model = model_with_sampler(arguments.folder, settings)
        leads, verdicts, scores = [], [], []
        for done, task in enumerate(tasks):
            print(f"{settings or 'as it is'}: {done} of {len(tasks)}", file=sys.stderr, flush=True)
            mine, theirs = store.scores(model, task), store.scores(flow, task)
            leads.append(judge.lead(mine, theirs, judge.Aspect.OVERALL))
            verdicts.append(judge.verdict(mine, theirs, judge.Aspect.OVERALL))
            scores.append(mine)
        if number == 0:
            first_N = np.array(leads)
        more = bootstrap(list(np.array(leads) - first_N))
        shown.add_row(
            json.dumps(settings) if settings else "as it is",
            "/".join(str(verdicts.count(each)) for each in (1, 0, -1)),
            f"{np.mean(leads):.2f}",
            str(more) if number else "",
            *(f"{np.mean([each[name] for each in scores]):.3f}" for name in SHOWN),
        )
    Console(width=max(Console().width, 150)).print(shown)


if __name__ == "__main__":
    main()
