"""Prompt embeddings: encoded once for the whole farm, and kept in the store by their content.

Wan's text encoder has 5.7 billion parameters. It is loaded for prompts that nobody has encoded
yet, and let go; the workers that denoise never hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from db.states import Stage
from dreamontage import keys
from flows.farm import Farm, FarmModel
from flows.steps.shots import context_of, plan_of, sampler_of, stages_of

if TYPE_CHECKING:
    from torch import Tensor


def encode_prompts(farm: Farm, take_id: str) -> int:
    """See to it that all prompts of a take are encoded; how many were new."""
    take = farm.repository.take(take_id)
    context = context_of(farm, take.shot_id)
    new = 0
    for stage in stages_of(context.board):
        prompts = {segment.prompt for segment in plan_of(farm, context, take.seed, stage).segments}
        if sampler_of(farm, context.board, stage)["guidance"] > 1:
            prompts.add(context.board.negative_prompt)
        model = farm.model(stage)
        missing = [
            each for each in prompts if farm.repository.embedding(_key(farm, model, each)) is None
        ]
        if missing:
            _encode(farm, model, sorted(missing))
        new += len(missing)
    return new


def embedding_of(farm: Farm, prompt: str, stage: Stage = Stage.BASE) -> Tensor:
    """A prompt's embedding for a stage's model, embeddings_BSD; encoded here if nobody has. Models
    with the same text encoder share it.
    """
    from safetensors.torch import load

    model = farm.model(stage)
    address = farm.repository.embedding(_key(farm, model, prompt))
    data = address and farm.read(address)
    if not data:
        _encode(farm, model, [prompt])
        address = farm.repository.embedding(_key(farm, model, prompt))
        assert address is not None
        data = farm.store.get(address)
    return load(data)["embedding"]


def _key(farm: Farm, model: FarmModel, prompt: str) -> str:
    return keys.digest(
        {
            "text": model.text_revision,
            "machine": keys.machine_kind(farm.settings.device),
            "prompt": prompt,
        }
    )


def _encode(farm: Farm, model: FarmModel, prompts: Iterable[str]) -> None:
    from safetensors.torch import save

    from flows.model import load_text

    text = load_text(model.folder, farm.settings.device)
    for prompt in prompts:
        embedding_BSD = text(prompt).cpu().contiguous()
        data = save({"embedding": embedding_BSD})
        address = farm.store.put("embeddings", data, ".safetensors")
        farm.repository.add_embedding(_key(farm, model, prompt), address)
