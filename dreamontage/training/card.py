"""The model card that lies beside exported weights: what they are, and what they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SMOKE = """**smoke: barely trained.** These weights exist so that every part of the studio can run
and be tested. Their films pass through their keyframes at best; between them expect patches and
blur, little motion, and hardly an answer to the prompt. Films made with them are labelled so.

"""


def model_card(facts: Mapping[str, Any], *, maturity: str | None, parameters: int) -> str:
    """A README.md from what the run wrote down (`training.json` of an export)."""
    return f"""# nano

{_SMOKE if maturity == "smoke" else ""}A Wan DiT of {parameters / 1e6:.1f} M parameters for
DreaMontagePipeline, in diffusers' layout: the code that runs it is the code that runs a Wan 14B.

| | |
|---|---|
| data | procedural one-shot clips (`dreamontage/training/worlds.py`), 16 fps{facts["photos"]} |
| recipe | `{facts["recipe"]}`: base and adaptive in one stage, AdamW, averaged weights |
| seen | {facts["clips"]:,} windows in {facts["step"]:,} steps |
| hardware | {facts["hardware"]}, {facts["training_seconds"] / 3600:.2f} h by the clock |
| held-out loss | {facts["held_out_loss"]:.4f}; untrained {facts["held_out_loss_untrained"]:.4f} |

The loss is the squared error of the velocity on clips drawn from seeds that no step uses, at times
spread evenly over the whole noise range; photos, if any, are the same ones. It says that the model
learns, not that its films are good.

- `vae/`: `LinearCodec`, principal components of 4x8x8 patches and a linear decoder,
  {facts["z_dim"]} channels, fitted to the same data in closed form. Fine texture does not survive.
- `text_encoder/`, `tokenizer/`: a random, frozen UMT5 of width 64. It knows the words of the
  captions ("the camera pans left", "a red star jumps") and spells out all others.
- `transformer/`: stored as float16, loads as float32. Input is [noise | mask | condition].
- Windows of up to 13 latents; a segment hands 2 latents to the next; 12 steps; no guidance.
- `training.json`: the figures above as the run wrote them.

To train on: `python -m dreamontage.training {facts["recipe"]} --out DIR --minutes M`; the same
folder again goes on where it stopped.
"""
