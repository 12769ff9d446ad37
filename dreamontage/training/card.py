"""The model card that lies beside exported weights: what they are, and what they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SMOKE = """**smoke: barely trained.** These weights have not been shown to meet the bounds of
`dreamontage evaluate`, without which no film should be shown. Films made with them are labelled
so.

"""

_MEANINGS = {
    "loss": "squared error of the velocity, at times spread evenly over the noise range",
    "psnr": "dB, of frames that were not given; rewards blur",
    "motion": "correlation of low-passed optical flow with the true film's; a freeze has 0",
    "motion_error": "end-point error over that of a film that stands still",
    "motion_amount": "how much it moves over how much it should",
    "flicker": "unsteadiness of the light over the true film's",
    "sharpness": "gradients inside the codec's blocks over the true film's",
    "blocks": "steps across the codec's blocks over the true film's",
    "loss_plain": "the same without the tokens of Shared-RoPE",
    "enlarged_psnr": "of the enlarged film before it is refined, as all that begins so",
    "accuracy": "held-out pairs whose winner the policy favours more than its reference does",
    "margin": "the mean of that preference",
}


def model_card(
    facts: Mapping[str, Any],
    *,
    maturity: str | None,
    parameters: int,
    photos: int,
    z_dim: int,
    finished: bool,
) -> str:
    """A README.md from what the run wrote down (`training.json` of an export).

    photos: squares of photos that its worlds showed. finished: whether the codec has a finish.
    """
    pictures = f", and {photos} squares of photos moved alike" if photos else ""
    rows = "\n".join(
        f"| {name} | {value:.4g} | {facts['untrained'][name]:.4g} | {_MEANINGS.get(name, '')} |"
        for name, value in facts["scores"].items()
    )
    before = "".join(
        f"| before it | `{each['recipe']}`: {each['examples']:,} examples in {each['step']:,} "
        f"steps, {each['training_seconds'] / 60:.1f} min of {each['hardware']} |\n"
        for each in facts.get("before", ())
    )
    finish = " and a finish that has learnt to mend what a model leaves," if finished else ","
    return f"""# {facts["recipe"]}

{_SMOKE if maturity == "smoke" else ""}A Wan DiT of {parameters / 1e6:.1f} M parameters for
DreaMontagePipeline, in diffusers' layout: the code that runs it is the code that runs a Wan 14B.

| | |
|---|---|
| data | procedural one-shot clips (`dreamontage/training/worlds.py`), 16 fps{pictures} |
{before}| recipe | `{facts["recipe"]}` (`dreamontage/training/recipes.py`) |
| seen | {facts["examples"]:,} examples in {facts["step"]:,} steps |
| hardware | {facts["hardware"]}, {facts["training_seconds"] / 60:.1f} min by the clock |

On held-out worlds, drawn from seeds that no step uses (photos, if any, are the training's), beside
what the run started from:

| score | now | at its start | |
|---|---|---|---|
{rows}

- `vae/`: `LinearCodec`, principal components of 4x8x8 patches and a linear decoder{finish}
  {z_dim} channels, fitted to the same data in closed form. Fine texture does not survive.
- `text_encoder/`, `tokenizer/`: a random, frozen UMT5 of width 64. It knows the words of the
  captions ("the camera pans left", "a red star jumps") and spells out all others.
- `transformer/`: stored as float16, loads as float32.
- `training.json`: the figures above as the run wrote them.
"""
