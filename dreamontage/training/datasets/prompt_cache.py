"""Prompt embeddings for training, encoded once and stored on disk by their content.

Wan's text encoder has 5.7 billion parameters. It is loaded for the first prompt that is not stored;
a run whose prompts are all stored never loads it. A window's prompt contains the window's own
times, so there may be as many prompts as steps. An embedding is stored without its padding, because
with it each takes four megabytes.

Shapes: B prompts, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import AutoTokenizer, UMT5EncoderModel

from dreamontage.digests import digest
from dreamontage.files import write_file
from dreamontage.models.folder import folder_revision
from dreamontage.models.text import embed


class PromptCache:
    """Embeddings by (encoder's revision and precision, prompt, length), under `folder`.

    Args:
        model: a model folder in diffusers' layout.
        length: tokens of a prompt.
    """

    def __init__(
        self, folder: Path, *, model: Path, length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.folder, self.model, self.length = folder, model, length
        self.device, self.dtype = device, dtype
        self.revision = folder_revision(model / "text_encoder")
        self._parts: tuple[Any, Any] | None = None

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """The prompts' embeddings, equal to those of diffusers' Wan pipelines, (B, S, D)."""
        files = {prompt: self._file(prompt) for prompt in prompts}
        missing = [prompt for prompt, file in files.items() if not file.exists()]
        if missing:
            for prompt, states_SD in zip(missing, self._encode(missing), strict=True):
                held = {"embedding": _without_padding(states_SD).cpu().contiguous()}
                write_file(files[prompt], partial(save_file, held))
        found = [load_file(files[prompt])["embedding"] for prompt in prompts]
        whole = [F.pad(states_SD, (0, 0, 0, self.length - len(states_SD))) for states_SD in found]
        return torch.stack(whole).to(self.device)

    def _file(self, prompt: str) -> Path:
        key_parts = {"text": self.revision, "dtype": str(self.dtype)}
        name = digest({**key_parts, "prompt": prompt, "length": self.length})
        return self.folder / f"{name}.safetensors"

    def _encode(self, prompts: Sequence[str]) -> Tensor:
        if self._parts is None:
            encoder = UMT5EncoderModel.from_pretrained(
                self.model / "text_encoder", dtype=self.dtype
            )
            tokenizer = AutoTokenizer.from_pretrained(self.model / "tokenizer")
            self._parts = tokenizer, encoder.to(self.device).eval().requires_grad_(False)
        cleaned = [prompt_clean(prompt) for prompt in prompts]
        return embed(*self._parts, cleaned, self.length)


def _without_padding(states_SD: Tensor) -> Tensor:
    """The embedding up to the prompt's end; the rest is zeros."""
    follows_S = states_SD.any(1).flip(0).cumsum(0).flip(0)
    return states_SD[follows_S > 0]
