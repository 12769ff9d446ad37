"""The model card beside exported weights: what they are, and what they are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

_MEANINGS = {
    "loss": "squared error of the velocity, at times spread evenly over the noise range",
    "psnr": "dB, of frames that were not given; rewards blur",
    "motion": "correlation of low-passed optical flow with the true film's; a freeze has 0",
    "motion_error": "end-point error over that of a film without motion",
    "motion_amount": "how much it moves over how much it should",
    "flicker": "unsteadiness of the light over the true film's",
    "sharpness": "gradients inside the codec's blocks over the true film's",
    "blocks": "steps across the codec's blocks over the true film's",
    "loss_plain": "the same without the tokens of Shared-RoPE",
    "enlarged_psnr": "of the enlarged film before it is refined; refining starts from it",
    "accuracy": "held-out pairs whose winner the policy favours more than its reference does",
    "margin": "the mean of that preference",
}

_TEMPLATE = """---
{{ card_data }}
---
# {{ facts.recipe }}

{% if release_stage == "smoke" -%}
**smoke: barely trained.** These weights have not been shown to meet the bounds of
`dreamontage evaluate`, without which no film should be shown. Films made with them are labelled
so.

{% endif -%}
A Wan DiT of {{ "%.1f" | format(parameters / 1e6) }} M parameters for
DreaMontagePipeline, in diffusers' layout: the code that runs it is the code that runs a Wan 14B.

| | |
|---|---|
| data | procedural one-shot clips (`dreamontage/training/synthetic/worlds.py`), 16 fps
{%- if photos %}, and {{ photos }} squares of photos moved alike{% endif %} |
{% for run in facts.before -%}
| before it | `{{ run.recipe }}`: {{ "{:,}".format(run.examples) }} examples in
{#- #} {{ "{:,}".format(run.step) }} steps, {{ minutes(run) }} min of {{ run.hardware }} |
{% endfor -%}
| recipe | `{{ facts.recipe }}` (`dreamontage/training/recipes/`) |
| seen | {{ "{:,}".format(facts.examples) }} examples in {{ "{:,}".format(facts.step) }} steps |
| hardware | {{ facts.hardware }}, {{ minutes(facts) }} min by the clock |

Scores on held-out worlds, drawn from seeds that no step uses (photos, if any, are the training's),
and the scores of the weights that the run started from:

| score | now | at its start | |
|---|---|---|---|
{% for name, value in facts.scores.items() -%}
| {{ name }} | {{ "%.4g" | format(value) }} | {{ "%.4g" | format(facts.untrained[name]) }} |
{#- #} {{ meanings.get(name, "") }} |
{% endfor %}
- `vae/`: `LinearCodec`, principal components of 4x8x8 patches and a linear decoder
{%- if finished %} and a finish that has learnt to mend what a model leaves,{% else %},{% endif %}
  {{ z_dim }} channels, fitted to the same data in closed form. Fine texture does not survive.
- `text_encoder/`, `tokenizer/`: a random, frozen UMT5 of width 64. It knows the words of the
  captions ("the camera pans left", "a red star jumps") and spells out all others.
- `transformer/`: stored as float16, loads as float32.
- `training.json`: the figures above as the run wrote them.
"""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says beside the run's own figures.

    photos: squares of photos that the run's worlds showed. finished: whether the codec has a
    finish.
    """

    release_stage: str | None
    parameters: int
    photos: int
    z_dim: int
    finished: bool


def model_card(facts: Mapping[str, Any], about: CardFacts) -> ModelCard:
    """A README.md from `facts`, what the run wrote down (`training.json` of an export)."""
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="image-to-video",
        tags=["dreamontage", "wan"],
        model_name=facts["recipe"],
        eval_results=[
            EvalResult(
                task_type="image-to-video",
                dataset_type="procedural",
                dataset_name="held-out worlds",
                metric_type=name,
                metric_value=value,
            )
            for name, value in facts["scores"].items()
        ],
    )
    return ModelCard.from_template(
        data,
        template_str=_TEMPLATE,
        facts={"before": (), **facts},
        meanings=_MEANINGS,
        minutes=lambda run: f"{run['training_seconds'] / 60:.1f}",
        **vars(about),
    )
