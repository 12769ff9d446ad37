"""Makes everything in this folder with the code of commit dbc79fb, and documents how it was made.

This script does not run with later code: it imports modules and fields that were renamed since.
To run it again, check dbc79fb out, install it, and from the top of that checkout:

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PYTHONPATH=. python …/make.py OUT

It writes into OUT:

- ``models/``: two folders of random weights, a base model and a super-resolution model.
- ``boards/``: the assets of three storyboards, which are written by hand and copied.
- ``ledger/``: what ``dreamontage render`` leaves of two of them, without the contact sheets.
- ``store/`` and ``database.sql``: a farm that finished one storyboard and was stopped in two.
- ``expected/`` and ``expected.json``: what the same code makes of the rest when it goes on.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from make_farm import latents_digest, make_farm, sha256
from safetensors.torch import load_file
from transformers import UMT5Config, UMT5EncoderModel

from dreamontage import DreaMontagePipeline, local
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.storyboard import load
from dreamontage.upscale import sr_channels
from tests.fixtures.alignment import aligned_loads
from tests.fixtures.boards import picture
from tests.fixtures.media import video_of
from tests.fixtures.tiny import TEXT, Z, tiny_text, tiny_transformer

SIDE = 64  # the smallest picture that a storyboard may ask for

# --- The models -----------------------------------------------------------------------------------


def components(channels: int, seed: int) -> dict[str, Any]:
    """As small as the shapes allow: what is committed is the files of these weights."""
    tokenizer, _ = tiny_text()
    torch.manual_seed(0)
    text = UMT5Config(vocab_size=100, d_model=TEXT, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    text_encoder = UMT5EncoderModel(text).eval()
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=2,
        z_dim=Z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.7, 1.1, 2.0],
    ).eval()
    stock = tiny_transformer(
        channels, seed=seed, num_layers=1, num_attention_heads=1, attention_head_dim=12, ffn_dim=16
    )
    transformer = DreaMontageTransformer3DModel.from_config(stock.config)
    transformer.load_state_dict(stock.state_dict())
    return {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "vae": vae,
        "transformer": transformer.eval(),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def make_models(folder: Path) -> None:
    """Every field of ``model_index.json`` that dbc79fb added has a value of its own in one of
    the two."""
    DreaMontagePipeline(
        **components(2 * Z + 4, seed=0),
        conditioning="interm",
        window_latents=3,
        tail_latents=1,
        max_sequence_length=32,
        default_steps=6,
        default_guidance=1.0,
        default_image_guidance=1.0,
        temperature=0.9,
        tempered_channels=2,
        maturity="smoke",
    ).save_pretrained(folder / "base")
    DreaMontagePipeline(
        **components(sr_channels(Z), seed=2),
        conditioning="interm",
        window_latents=4,
        tail_latents=2,
        max_sequence_length=32,
        default_steps=8,
        default_guidance=1.0,
        superres={"tile_latents": [8, 8], "overlap_latents": 4, "strength": 0.92},
    ).save_pretrained(folder / "sr")


# --- The storyboards' assets ----------------------------------------------------------------------


def make_assets(folder: Path) -> None:
    """The assets of the storyboards beside this script, and copies of these."""
    folder.mkdir(parents=True)
    picture(folder / "still0.png", 0, SIDE, SIDE)
    picture(folder / "still1.png", 1, SIDE, SIDE)
    picture(folder / "wide.png", 2, 96, 64)  # cropped when it is taken in
    y_H, x_W = np.mgrid[0:SIDE, 0:SIDE]
    frames_THWC = np.stack(
        [
            np.stack([x_W * 2 + 8 * t, y_H * 2 + 40, 200 - x_W - y_H // 2 - 4 * t], axis=-1)
            for t in range(9)
        ]
    )
    video_of(
        frames_THWC.clip(0, 255).astype(np.uint8),
        folder / "drift.mp4",
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20"),
    )
    for board in (Path(__file__).parent / "boards").glob("*.yaml"):
        shutil.copy(board, folder)


# --- The ledger folder ----------------------------------------------------------------------------


def make_ledger(out: Path) -> dict[str, Any]:
    """Two storyboards rendered into one folder, as ``dreamontage render -o ledger`` twice."""
    found = {}
    for name in ("walk", "large"):
        pipe, sr = (
            DreaMontagePipeline.from_pretrained(out / "models" / each, dtype=torch.float32)
            for each in ("base", "sr")
        )
        board = load(out / "boards" / f"{name}.yaml")
        made, _ = local.render(
            board,
            out / "boards",
            out / "ledger",
            pipe,
            sr=sr if board.upscale else None,
            name=name,
        )
        made.sheet.unlink()
        shots = json.loads(made.record.read_text())["shots"]
        keys = [
            each["key"] for shot in shots for each in [*shot["segments"], *shot.get("upscaled", ())]
        ]
        found[name] = {
            "film": sha256(made.film),
            "latents": {
                key: latents_digest(load_file(out / "ledger/segments" / f"{key}.safetensors"))
                for key in keys
            },
        }
    return found


# --- Together -------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What bits of a film depend on beside its key: another processor rounds differently."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = ("vendor_id", "cpu family", "model", "stepping")
    processor = [
        next(line.split(":")[1].strip() for line in lines if line.partition("\t")[0] == field)
        for field in fields
    ]
    packages = ("torch", "diffusers", "transformers", "numpy", "pillow", "av", "imageio-ffmpeg")
    return {
        "processor": " ".join(processor),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        **{name: metadata.version(name) for name in packages},
    }


def main(out: Path) -> None:
    assert os.environ.get("OMP_NUM_THREADS") == "1"
    make_models(out / "models")
    make_assets(out / "boards")
    with aligned_loads():
        ledger = make_ledger(out)
        farm = make_farm(out)
    assert farm["walk"]["film"] == ledger["walk"]["film"], "a film is the same whoever rendered"
    assert farm["large"]["film"] == ledger["large"]["film"]
    for memo in out.rglob(".revision.json"):
        memo.unlink()  # it holds times of this machine's files
    for name in ("walk.mp4", "large.mp4"):
        (out / "expected" / name).unlink()  # in ledger/ already
    expected = {
        "commit": "dbc79fb",
        "machine": machine(),
        "models": {
            name: DreaMontagePipeline.from_pretrained(out / "models" / name).revision
            for name in ("base", "sr")
        },
        "ledger": ledger,
        "farm": farm,
    }
    for memo in out.rglob(".revision.json"):
        memo.unlink()
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
