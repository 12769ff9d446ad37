"""Setting options up on a pipeline, and keeping them right from segment to segment."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from diffusers import (
    ContextParallelConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    TaylorSeerCacheConfig,
)
from diffusers.models.attention_dispatch import attention_backend
from torch import nn

from dreamontage.pipeline.acceleration.options import FirstBlock, Mag, SpeedOptions, TaylorSeer
from dreamontage.planning.segments import Segment
from dreamontage.sampling.denoise import Sampler
from dreamontage.sampling.state import DenoiseState

_ATTENTION_ON_CPU = ("native", "_native_math", "_native_flash")
# torch's own 8 is fewer than the windows, sizes and experts that one worker may meet.
_COMPILED_SHAPES = 64
# What TaylorSeer predicts. By default it looks for names that Wan's blocks do not have.
_TAYLOR_MODULES = r"blocks\.\d+\.(attn1|attn2|ffn)"


def apply(pipe: Any, options: SpeedOptions, device: torch.device | None = None) -> None:
    """Set the options up on every expert of ``pipe``, a ``DreaMontagePipeline``. Once a pipeline:
    most cannot be undone.

    Args:
        device: where the model computes; None for where the pipeline is. For ``group_offload`` of a
            model that does not fit, name the GPU while the pipeline is still in main memory, and
            move it afterwards: its experts stay behind.

    Raises:
        ValueError: for what this pipeline, machine or installation cannot do, or if options were
            applied before. Found out before anything is set up, but for an attention backend that
            diffusers refuses to spread over GPUs.
    """
    if getattr(pipe, "speed", None) is not None:
        raise ValueError("options were applied to this pipeline before; load it anew for others")
    device = device or pipe._execution_device
    experts = [model for model in (pipe.transformer, pipe.transformer_2) if model is not None]
    _check_machine(options, device, experts)
    with ExitStack() as restoring:
        if options.attention is not None:
            # diffusers would make it the default of every other model in the process too.
            restoring.enter_context(attention_backend(options.attention))
        for model in experts:
            _set_up(model, options, device)
    pipe.speed = options
    pipe.batched_guidance = options.batched_guidance
    _install_checks(pipe, experts, options)


def fit(pipe: Any, options: SpeedOptions, device: str) -> None:
    """Bring the pipeline, in main memory, to where it computes, and set the options up on it.

    Raises:
        ValueError: as `apply`.
    """
    if options.group_offload is None:
        pipe.to(device)
        apply(pipe, options)
    else:  # its experts need not fit there: they stay behind
        apply(pipe, options, torch.device(device))
        pipe.to(device)


def _check_machine(options: SpeedOptions, device: torch.device, experts: list[Any]) -> None:
    if options.attention is not None:
        if device.type == "cpu" and options.attention not in _ATTENTION_ON_CPU:
            raise ValueError(
                f"attention = {options.attention!r} needs CUDA; a CPU has "
                f"{', '.join(_ATTENTION_ON_CPU)}"
            )
        try:
            with attention_backend(options.attention):
                pass
        except RuntimeError as error:
            raise ValueError(f"attention = {options.attention!r} is not usable: {error}") from error
    if options.quantise is not None and importlib.util.find_spec("torchao") is None:
        raise ValueError(f"quantise = {options.quantise!r} needs the package torchao")
    if isinstance(options.step_cache, Mag) and len(experts) > 1:
        raise ValueError(
            "step_cache = Mag counts the steps of one model; this pipeline has two experts"
        )
    degree = options.context_parallel
    if degree > 1:
        if torch.accelerator.device_count() == 0:
            raise ValueError(f"context_parallel = {degree} needs CUDA")
        processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if processes != degree:
            raise ValueError(
                f"context_parallel = {degree} needs as many processes in one group, started by "
                f"torchrun --nproc-per-node {degree}; there are {processes}"
            )
        heads = experts[0].config.num_attention_heads
        if heads % degree:
            raise ValueError(
                f"context_parallel = {degree} must divide the model's {heads} attention heads"
            )


def _set_up(model: Any, options: SpeedOptions, device: torch.device) -> None:
    """In the order in which the options wrap each other: weights first, the compiler last."""
    if options.attention is not None:
        model.set_attention_backend(options.attention)
    if options.quantise is not None:
        _quantise(model, options.quantise)
    if options.fp8_storage:
        model.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=model.dtype)
    if options.group_offload is not None:
        model.enable_group_offload(
            device,
            offload_type=f"{options.group_offload}_level",
            num_blocks_per_group=1,
            use_stream=device.type == "cuda",
        )
    if options.step_cache is not None:
        model.enable_cache(_cache_config(options.step_cache, model.dtype))
    if options.context_parallel > 1:
        degree = options.context_parallel
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=degree))
    if options.compile is not None:
        model.compile(
            backend=options.compile,
            fullgraph=True,
            # A graph for any length would depend on the lengths that came before it.
            dynamic=False,
            recompile_limit=_COMPILED_SHAPES,
        )


def _cache_config(cache: FirstBlock | Mag | TaylorSeer, dtype: torch.dtype) -> Any:
    if isinstance(cache, FirstBlock):
        return FirstBlockCacheConfig(threshold=cache.threshold)
    if isinstance(cache, Mag):
        return MagCacheConfig(
            mag_ratios=list(cache.ratios),
            num_inference_steps=len(cache.ratios),
            threshold=cache.threshold,
            max_skip_steps=cache.max_skips,
            retention_ratio=cache.retention,
        )
    return TaylorSeerCacheConfig(
        cache_interval=cache.interval,
        disable_cache_before_step=cache.warmup,
        max_order=cache.order,
        taylor_factors_dtype=dtype,
        cache_identifiers=[_TAYLOR_MODULES],
    )


def _quantise(model: Any, kind: str) -> None:
    torchao = importlib.import_module("torchao.quantization")
    configs = {
        "int8": "Int8WeightOnlyConfig",
        "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
        "fp8": "Float8WeightOnlyConfig",
    }
    torchao.quantize_(
        model,
        getattr(torchao, configs[kind])(),
        filter_fn=lambda module, name: isinstance(module, nn.Linear) and name.startswith("blocks."),
    )


def _install_checks(pipe: Any, experts: list[Any], options: SpeedOptions) -> None:
    """Check every segment, of a call or of a farm, against the options before it is denoised."""
    denoise_segment = pipe.denoise_segment

    @functools.wraps(denoise_segment)
    def checked_denoise(
        segment: Segment,
        *,
        height: int,
        width: int,
        sampler: Sampler,
        state: DenoiseState | None = None,
        **kwargs: Any,
    ) -> Iterator[DenoiseState]:
        _check_steps(options, sampler, state, has_draft=kwargs.get("draft") is not None)
        _check_tokens(pipe, options, segment, height, width)
        states: Iterator[DenoiseState] = denoise_segment(
            segment, height=height, width=width, sampler=sampler, state=state, **kwargs
        )
        return with_reset_caches(states) if options.step_cache is not None else states

    def with_reset_caches(states: Iterator[DenoiseState]) -> Iterator[DenoiseState]:
        # diffusers empties caches when a pipeline call ends; a segment may end, or break off,
        # without one.
        for model in experts:
            model._reset_stateful_cache()
        yield from states

    pipe.denoise_segment = checked_denoise


def _check_steps(
    options: SpeedOptions, sampler: Sampler, state: DenoiseState | None, *, has_draft: bool
) -> None:
    cache = options.step_cache
    if cache is not None and state is not None:
        raise ValueError(
            f"state: a segment cannot go on from step {state.step} with step_cache set, since what "
            "the cache held is not stored; start it again without a state"
        )
    if isinstance(cache, Mag) and has_draft:
        raise ValueError("step_cache = Mag counts steps from the first: a draft start has fewer")
    if isinstance(cache, Mag) and len(cache.ratios) != sampler.steps:
        raise ValueError(
            f"step_cache.ratios holds {len(cache.ratios)} numbers, one a step, and this segment "
            f"has {sampler.steps} steps"
        )


def _check_tokens(
    pipe: Any, options: SpeedOptions, segment: Segment, height: int, width: int
) -> None:
    scale = pipe.vae.config.scale_factor_spatial
    time, tall, wide = pipe.transformer.config.patch_size
    tokens = (segment.latents // time) * (height // scale // tall) * (width // scale // wide)
    if tokens % options.context_parallel:
        raise ValueError(
            f"context_parallel = {options.context_parallel} must divide a window's tokens; "
            f"{segment.latents} latents of {width}x{height} are {tokens}"
        )
