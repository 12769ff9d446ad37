"""Model folders, LoRA and single files load as diffusers loads them, into our classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import GGUFQuantizationConfig, WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import save_file

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.models import bundled
from dreamontage.models.folder import folder_facts, folder_revision
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from tests.support.tiny import TEXT, Z, lora, tiny_transformer

STILL = Image.new("RGB", (48, 32), (200, 90, 20))
CALL: dict[str, Any] = {
    "prompt": "a cat",
    "num_frames": 5,
    "height": 32,
    "width": 48,
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "max_sequence_length": 32,
    "conditions": [Keyframe(image=STILL, frame=0)],
}


def test_loading_is_quiet_in_a_log(tiny_i2v: Path, capfd: Any) -> None:
    DreaMontagePipeline.from_pretrained(tiny_i2v)
    assert capfd.readouterr().err == ""
    WanImageToVideoPipeline.from_pretrained(tiny_i2v)
    assert "Loading" in capfd.readouterr().err, "diffusers' own bars are left as they were"


def test_a_tuned_folder_reloads_as_itself(tiny_i2v: Path, tmp_path: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    pipe.register_to_config(conditioning="interm", window_latents=3, tail_latents=1)
    pipe.save_pretrained(tmp_path / "ours")
    again = DreaMontagePipeline.from_pretrained(tmp_path / "ours")
    assert again.config.conditioning == "interm"
    assert again.geometry.window_latents == 3
    call = CALL | {"conditions": [Keyframe(image=STILL, frame=5)], "num_frames": 18}
    assert np.array_equal(pipe(**call).frames, again(**call).frames)
    assert again(**call).frames.shape == (1, 18, 32, 48, 3)


def test_a_type_asked_for_is_every_parts(tiny_a14b: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_a14b, dtype=torch.bfloat16)
    parts = (pipe.transformer, pipe.transformer_2, pipe.vae, pipe.text_encoder)
    assert {part.dtype for part in parts} == {torch.bfloat16}
    mixed = {"transformer": torch.bfloat16, "default": torch.float32}
    with pytest.warns(FutureWarning, match="torch_dtype"):  # diffusers' older name for it
        pipe = DreaMontagePipeline.from_pretrained(tiny_a14b, torch_dtype=mixed)
    assert pipe.transformer.dtype == torch.bfloat16
    assert pipe.transformer_2.dtype == torch.float32


def test_a_revision_is_only_for_an_untouched_folder(tiny_i2v: Path) -> None:
    """A segment that other weights made must never be taken for the folder's own."""
    first = DreaMontagePipeline.from_pretrained(tiny_i2v)
    second = DreaMontagePipeline.from_pretrained(tiny_i2v)
    assert first.revision == second.revision
    silent = DreaMontagePipeline.from_pretrained(tiny_i2v, text_encoder=None, tokenizer=None)
    assert silent.revision == first.revision
    other = DreaMontagePipeline.from_pretrained(tiny_i2v, transformer=first.transformer)
    assert other.revision.startswith("unsaved-")
    assert other.revision != DreaMontagePipeline(**other.components).revision


OLD_NAMES = {"maturity": "smoke", "temperature": 0.5, "tempered_channels": 2}
NAMES = {
    "release_stage": "smoke",
    "initial_noise_scale": 0.5,
    "initial_noise_scale_channels": 2,
}


@pytest.mark.parametrize("settings", [OLD_NAMES, NAMES], ids=["old", "new"])
def test_settings_are_read_under_both_their_names(
    tiny_ours: Path, tmp_path: Path, settings: Any
) -> None:
    """Folders that were written before they were renamed go on being read."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_ours, folder)
    file = folder / "model_index.json"
    index = {key: value for key, value in json.loads(file.read_text()).items() if key not in NAMES}
    file.write_text(json.dumps(index | settings))
    facts = folder_facts(folder)
    assert (facts.release_stage, facts.smoke) == ("smoke", True)
    pipe = DreaMontagePipeline.from_pretrained(folder)
    assert {name: pipe.config[name] for name in NAMES} == NAMES
    assert pipe.revision == folder_revision(folder)
    pipe.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert {name: written[name] for name in NAMES} == NAMES
    assert not OLD_NAMES.keys() & written.keys()
    pipe.register_to_config(temperature=0.25)
    assert pipe.config.initial_noise_scale == 0.25


def test_the_shipped_folders_settings_are_read() -> None:
    """Their files keep the old names: their bytes are in the revision."""
    folder = bundled.weights("nano")
    assert "temperature" in json.loads((folder / "model_index.json").read_text())
    pipe = DreaMontagePipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    assert pipe.config.initial_noise_scale == 0.85
    assert pipe.config.initial_noise_scale_channels == 12
    assert pipe.config.release_stage is None


def test_a_lora_is_that_of_diffusers_and_leaves_no_trace(tiny_a14b: Path) -> None:
    ours = DreaMontagePipeline.from_pretrained(tiny_a14b)
    theirs = WanImageToVideoPipeline.from_pretrained(tiny_a14b)
    theirs.set_progress_bar_config(disable=True)
    call = {key: value for key, value in CALL.items() if key != "conditions"}

    def film(pipe: WanImageToVideoPipeline) -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        guide = {"conditions": CALL["conditions"]} if pipe is ours else {"image": STILL}
        return pipe(**call, **guide, generator=generator).frames

    before, revision = film(ours), ours.revision
    for pipe in (ours, theirs):
        pipe.load_lora_weights(lora(1), adapter_name="one")
        pipe.load_lora_weights(lora(2), adapter_name="low", load_into_transformer_2=True)
        pipe.set_adapters(["one"], [0.5])
    with_lora = film(ours)
    assert np.array_equal(with_lora, film(theirs))
    assert not np.array_equal(with_lora, before)
    assert ours.revision != revision
    ours.unload_lora_weights()
    assert np.array_equal(film(ours), before)


def original_layout(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A diffusers state dict under the names that Wan's own repository writes."""
    names = {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "attn1": "self_attn",
        "attn2": "cross_attn",
        ".to_out.0.": ".o.",
        ".to_q.": ".q.",
        ".to_k.": ".k.",
        ".to_v.": ".v.",
        "ffn.net.0.proj": "ffn.0",
        "ffn.net.2": "ffn.2",
        "norm2": "norm3",
        "proj_out": "head.head",
    }
    renamed = {}
    for name, value in state.items():
        if name == "scale_shift_table":
            name = "head.modulation"
        name = name.replace("scale_shift_table", "modulation")
        for ours, original in names.items():
            name = name.replace(ours, original)
        renamed[name] = value
    return renamed


@torch.no_grad()
def test_a_single_file_in_the_original_layout(tiny_t2v: Path, tmp_path: Path) -> None:
    stock = tiny_transformer(Z, seed=4)
    state = original_layout(stock.state_dict())
    assert "blocks.0.self_attn.q.weight" in state
    file = tmp_path / "wan.safetensors"
    save_file(state, file)
    ours = DreaMontageTransformer3DModel.from_single_file(
        str(file), config=str(tiny_t2v), subfolder="transformer"
    )
    assert type(ours) is DreaMontageTransformer3DModel
    given = {
        "hidden_states": torch.randn(1, Z, 3, 4, 6),
        "timestep": torch.tensor([700.0]),
        "encoder_hidden_states": torch.randn(1, 7, TEXT),
    }
    assert torch.equal(ours(**given).sample, stock(**given).sample)
    pipe = DreaMontagePipeline.from_pretrained(tiny_t2v, transformer=ours)
    assert pipe.transformer is ours


@torch.no_grad()
def test_a_quantised_gguf_file(tmp_path: Path) -> None:
    """Matrices in 8 bits, as community checkpoints come: equal to diffusers' own class on the same
    file, and near the model that was quantised."""
    stock = tiny_transformer(Z, seed=4, attention_head_dim=16, ffn_dim=64)
    file = tmp_path / "wan.gguf"
    writer = gguf.GGUFWriter(file, "wan")
    for name, value in original_layout(stock.state_dict()).items():
        exact = value.float().numpy()
        small = value.ndim != 2 or value.shape[1] % 32 or "modulation" in name
        kind = gguf.GGMLQuantizationType.F32 if small else gguf.GGMLQuantizationType.Q8_0
        data = exact if small else gguf.quants.quantize(exact, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stock.save_config(tmp_path / "config" / "transformer")
    ours, theirs = (
        kind.from_single_file(
            str(file),
            config=str(tmp_path / "config"),
            subfolder="transformer",
            quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
            torch_dtype=torch.float32,
        )
        for kind in (DreaMontageTransformer3DModel, WanTransformer3DModel)
    )
    assert type(ours.blocks[0].attn1.to_q).__name__ == "GGUFLinear"
    given = {
        "hidden_states": torch.randn(1, Z, 3, 4, 6),
        "timestep": torch.tensor([700.0]),
        "encoder_hidden_states": torch.randn(1, 7, TEXT),
    }
    made = ours(**given).sample
    assert torch.equal(made, theirs(**given).sample)
    exact = stock(**given).sample
    assert 0 < (made - exact).norm() < 0.05 * exact.norm()
