"""Which options there are, and which exclude each other."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

# Those of the diffusers that is pinned, by name: importing it would import torch.
ATTENTIONS = (
    *("native", "_native_cudnn", "_native_efficient", "_native_flash", "_native_math"),
    *("_native_npu", "_native_xla", "flex", "xformers", "aiter_fa2_hub"),
    *("flash", "flash_hub", "flash_varlen", "flash_varlen_hub", "flash_4_hub"),
    *("_flash_3", "_flash_varlen_3", "_flash_3_hub", "_flash_3_varlen_hub"),
    *("sage", "sage_hub", "sage_blackwell_hub", "sage_varlen"),
    *("_sage_qk_int8_pv_fp8_cuda", "_sage_qk_int8_pv_fp8_cuda_sm90"),
    *("_sage_qk_int8_pv_fp16_cuda", "_sage_qk_int8_pv_fp16_triton"),
)
_COMPILERS = ("inductor", "aot_eager", "eager")
_OFFLOADS = ("block", "leaf")
_QUANTISATIONS = ("int8", "int8-dynamic", "fp8")


@dataclass(frozen=True, kw_only=True)
class FirstBlock:
    """Skip the other blocks when the first block's residual changed by less than ``threshold``,
    relative to the last step that ran them all.
    """

    threshold: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Mag:
    """Skip the blocks while their residual's magnitude is known to change little.

    ``ratios``: its change from step to step, one a step, a property of the model and the number of
    steps; :func:`mag_ratios` measures it. ``threshold``: how much error may gather.
    """

    ratios: tuple[float, ...]
    threshold: float = 0.06
    max_skips: int = 3
    retention: float = 0.2  # this share of the steps, the first ones, is never skipped


@dataclass(frozen=True, kw_only=True)
class TaylorSeer:
    """Call attention and feed-forward layers every ``interval`` steps after ``warmup``; in between,
    extrapolate their outputs.
    """

    interval: int = 5
    warmup: int = 3
    order: int = 1


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """What to set up; nothing by default.

    ``compile``: "inductor", or torch's debugging backends "aot_eager" and "eager".
    ``attention``: one of diffusers' attention backends, such as "native", "flash" or "sage".
    ``step_cache``: reuse of what changes little from one denoise step to the next.
    ``group_offload``: weights wait in main memory and go to the GPU by "block" or by "leaf" module.
    ``fp8_storage``: weights are stored in 8 bits and computed with in the model's own type.
    ``quantise``: torchao's "int8" or "fp8" weights, or "int8-dynamic" for the products too.
    ``batched_guidance``: the calls of a guided step go to the model as one batch.
    ``context_parallel``: GPUs that share one sequence; start as many processes with torchrun.

    Raises:
        ValueError: for an unknown name, a number out of range, or two options that exclude each
            other; it names the field and the rule.
    """

    compile: str | None = None
    attention: str | None = None
    step_cache: FirstBlock | Mag | TaylorSeer | None = None
    group_offload: str | None = None
    fp8_storage: bool = False
    quantise: str | None = None
    batched_guidance: bool = False
    context_parallel: int = 1

    def __post_init__(self) -> None:
        for field, known in {
            "compile": _COMPILERS,
            "attention": ATTENTIONS,
            "group_offload": _OFFLOADS,
            "quantise": _QUANTISATIONS,
        }.items():
            value = getattr(self, field)
            if value is not None and value not in known:
                raise ValueError(f"{field} = {value!r} must be one of {', '.join(known)}")
        if self.context_parallel < 1:
            raise ValueError(f"context_parallel = {self.context_parallel} must be at least 1")
        _check_cache(self.step_cache)
        for one, other, why in _EXCLUDE:
            if {one, other} <= self.chosen.keys():
                raise ValueError(f"{one} and {other} exclude each other: {why}")
        if isinstance(self.step_cache, FirstBlock) and self.context_parallel > 1:
            raise ValueError(
                "step_cache = FirstBlock and context_parallel exclude each other: each process "
                "would decide by its own part of the sequence, and wait for the others for ever"
            )

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }

    @property
    def for_upscaling(self) -> SpeedOptions:
        """These for a super-resolution model: its few steps are all made, each tile on one GPU."""
        return replace(self, step_cache=None, context_parallel=1)


# What was tried and failed, cannot work by its nature, or nobody has shown to work.
_EXCLUDE = [
    ("compile", "step_cache", "caches break the graph and compile anew at every step"),
    ("compile", "group_offload", "moving weights breaks the graph at every module"),
    ("compile", "fp8_storage", "casting weights breaks the graph at every module"),
    ("batched_guidance", "step_cache", "not shown to work together"),
    ("quantise", "fp8_storage", "weights can be made small only once"),
    ("quantise", "group_offload", "not shown to work together"),
    ("context_parallel", "group_offload", "not shown to work together"),
]


def _check_cache(cache: FirstBlock | Mag | TaylorSeer | None) -> None:
    if isinstance(cache, FirstBlock | Mag) and not cache.threshold > 0:
        raise ValueError(f"step_cache.threshold = {cache.threshold} must be more than 0")
    if isinstance(cache, Mag):
        if not cache.ratios:
            raise ValueError("step_cache.ratios must hold one number a step; see mag_ratios")
        if not 0 <= cache.retention <= 1:
            raise ValueError(f"step_cache.retention = {cache.retention} must be from 0 to 1")
        if cache.max_skips < 1:
            raise ValueError(f"step_cache.max_skips = {cache.max_skips} must be at least 1")
    if isinstance(cache, TaylorSeer):
        for name, least in {"interval": 2, "warmup": 1, "order": 0}.items():
            if getattr(cache, name) < least:
                raise ValueError(
                    f"step_cache.{name} = {getattr(cache, name)} must be at least {least}"
                )
