"""How exact each speed option is: the same bits, other roundings, or a bounded error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreamontage.pipeline.acceleration import (
    Exactness,
    SpeedOptions,
    apply,
    describe,
    resumable,
)
from dreamontage.sampling.state import state_from_bytes, state_to_bytes
from tests.support.speed import (
    APPROXIMATE,
    EXACT,
    MAG,
    latents_of,
    loaded,
    option_id,
    relative_error,
    states_of,
    torchao,
)
from tests.support.tiny import save_tiny_wan


@pytest.mark.parametrize("options", EXACT, ids=option_id)
def test_exact_means_the_same_bits(
    options: SpeedOptions, tiny_i2v: Path, plain_latents: dict[int, Tensor]
) -> None:
    pipe = loaded(tiny_i2v, options)
    assert all(effect.exactness is Exactness.EXACT for effect in describe(options))
    assert torch.equal(latents_of(pipe, 3), plain_latents[3])
    assert torch.equal(latents_of(pipe, 2), plain_latents[2])
    assert pipe.revision == loaded(tiny_i2v).revision


def test_another_attention_kernel_rounds_otherwise(
    tiny_i2v: Path, plain_latents: dict[int, Tensor]
) -> None:
    options = SpeedOptions(attention="_native_math")
    (effect,) = describe(options)
    assert effect.exactness is Exactness.ROUNDING
    latents = latents_of(loaded(tiny_i2v, options))
    assert not torch.equal(latents, plain_latents[3])
    assert relative_error(latents, plain_latents[3]) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_inductor_rounds_otherwise(tiny_i2v: Path, plain_latents: dict[int, Tensor]) -> None:
    """Slow: C++ is compiled. The quick run has "aot_eager", which goes the same way up to there."""
    options = SpeedOptions(compile="inductor")
    (effect,) = describe(options)
    assert effect.exactness is Exactness.ROUNDING
    pipe = loaded(tiny_i2v, options)
    assert relative_error(latents_of(pipe, 3), plain_latents[3]) < 1e-5
    assert relative_error(latents_of(pipe, 2), plain_latents[2]) < 1e-5


@pytest.mark.parametrize(("options", "bound"), APPROXIMATE, ids=option_id)
def test_approximate_is_off_by_no_more_than_said(
    options: SpeedOptions, bound: float, tiny_i2v: Path, plain_latents: dict[int, Tensor]
) -> None:
    assert Exactness.APPROXIMATE in {effect.exactness for effect in describe(options)}
    latents = latents_of(loaded(tiny_i2v, options))
    assert not torch.equal(latents, plain_latents[3])
    assert relative_error(latents, plain_latents[3]) < bound


@pytest.mark.skipif(torchao is None, reason="torchao is not installed")
@pytest.mark.parametrize("kind", ["int8", "int8-dynamic", "fp8"])
def test_quantised_is_off_by_no_more_than_said(
    kind: str, tiny_i2v: Path, plain_latents: dict[int, Tensor]
) -> None:
    latents = latents_of(loaded(tiny_i2v, SpeedOptions(quantise=kind)))
    assert not torch.equal(latents, plain_latents[3])
    assert relative_error(latents, plain_latents[3]) < 0.02


@pytest.mark.parametrize(
    "options",
    [SpeedOptions(fp8_storage=True), SpeedOptions(attention="_native_math", group_offload="leaf")],
    ids=option_id,
)
def test_resumable_options_resume_bit_for_bit(options: SpeedOptions, tiny_i2v: Path) -> None:
    assert resumable(options)
    states = list(states_of(loaded(tiny_i2v, options)))
    stored = state_from_bytes(state_to_bytes(states[2]))
    resumed = latents_of(loaded(tiny_i2v, options), state=stored)
    assert torch.equal(resumed, states[-1].latents_BCLHW)


def test_both_experts_get_the_options(tiny_a14b: Path) -> None:
    whole = latents_of(loaded(tiny_a14b))
    pipe = loaded(tiny_a14b, SpeedOptions(fp8_storage=True))
    for expert in (pipe.transformer, pipe.transformer_2):
        assert expert.blocks[0].ffn.net[2].weight.dtype == torch.float8_e4m3fn
    assert 0 < relative_error(latents_of(pipe), whole) < 0.05
    with pytest.raises(ValueError, match=r"step_cache = Mag .* two experts"):
        apply(loaded(tiny_a14b), SpeedOptions(step_cache=MAG))


def test_attention_stays_with_its_pipeline(
    tiny_i2v: Path, plain_latents: dict[int, Tensor]
) -> None:
    """diffusers would set it for every model in the process."""
    apply(loaded(tiny_i2v), SpeedOptions(attention="_native_math"))
    assert torch.equal(latents_of(loaded(tiny_i2v)), plain_latents[3])


@pytest.mark.slow
def test_two_processes_share_a_sequence(tmp_path: Path) -> None:
    """Slow: two processes load torch."""
    folder = save_tiny_wan(tmp_path / "i2v", "i2v")
    script = f"from tests.support.speed import check_rank; check_rank({str(folder)!r})"
    (tmp_path / "rank.py").write_text(script)
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", tmp_path / "rank.py"),
        ],
        check=True,
        cwd=Path(__file__).parents[1],
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )
