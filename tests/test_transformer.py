"""The conditioned DiT equals diffusers' wherever the two overlap, and an explicit reference where
they do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers import transformer_wan

from dreamontage.models.transformer import DreaMontageTransformer3DModel
from tests.support.tiny import TEXT, Z, tiny_transformer


@pytest.fixture
def stock_and_ours(tmp_path: Path) -> tuple[torch.nn.Module, DreaMontageTransformer3DModel]:
    stock = tiny_transformer(Z)
    stock.save_pretrained(tmp_path)
    return stock, DreaMontageTransformer3DModel.from_pretrained(tmp_path)


def inputs(channels: int, frames: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "hidden_states": torch.randn(1, channels, frames, 4, 6, generator=generator),
        "timestep": torch.tensor([700.0]),
        "encoder_hidden_states": torch.randn(1, 7, TEXT, generator=generator),
    }


@torch.no_grad()
def test_a_stock_checkpoint_gives_the_same_bits(stock_and_ours: Any) -> None:
    stock, ours = stock_and_ours
    assert ours.config.num_layers == 2, "the checkpoint's config must survive loading"
    assert torch.equal(stock(**inputs(Z)).sample, ours(**inputs(Z)).sample)


@torch.no_grad()
def test_grown_channels_are_ignored_until_tuned(stock_and_ours: Any) -> None:
    stock, ours = stock_and_ours
    expected = stock(**inputs(Z)).sample
    ours.grow_input(2 * Z + 4)
    given = inputs(Z)
    given["hidden_states"] = torch.cat(
        [given["hidden_states"], torch.randn(1, Z + 4, 5, 4, 6)], dim=1
    )
    assert torch.equal(expected, ours(**given).sample)
    assert ours.config.in_channels == 2 * Z + 4
    with pytest.raises(ValueError, match="in_channels = 4"):
        ours.grow_input(Z)


@torch.no_grad()
def test_growth_survives_saving(stock_and_ours: Any, tmp_path: Path) -> None:
    _, ours = stock_and_ours
    ours.grow_input(2 * Z + 4)
    ours.save_pretrained(tmp_path / "grown")
    again = DreaMontageTransformer3DModel.from_pretrained(tmp_path / "grown")
    assert torch.equal(again(**inputs(2 * Z + 4)).sample, ours(**inputs(2 * Z + 4)).sample)


def reference_rotary(
    rope: Any, frames: list[int], height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary rows written out token by token: token (f, h, w) takes row f, h and w of the three
    tables.
    """
    tables = []
    for table in (rope.freqs_cos, rope.freqs_sin):
        t, h, w = table.split([rope.t_dim, rope.h_dim, rope.w_dim], dim=1)
        rows = [
            torch.cat([t[frame], h[y], w[x]])
            for frame in frames
            for y in range(height)
            for x in range(width)
        ]
        tables.append(torch.stack(rows)[None, :, None])
    return tables[0], tables[1]


@torch.no_grad()
def test_appended_frames_carry_the_position_they_stand_for(
    stock_and_ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, ours = stock_and_ours
    given = inputs(Z)
    shared = torch.randn(1, Z, 2, 4, 6)
    got = ours(**given, shared_states=shared, shared_frames=[3, 0]).sample

    table = reference_rotary(ours.rope, [0, 1, 2, 3, 4, 3, 0], 2, 3)
    monkeypatch.setattr(
        transformer_wan.WanRotaryPosEmbed, "forward", lambda self, hidden_states: table
    )
    given["hidden_states"] = torch.cat([given["hidden_states"], shared], dim=2)
    expected = stock(**given).sample[:, :, :5]
    assert torch.equal(got, expected)


@torch.no_grad()
def test_order_of_appended_frames_does_not_matter_but_their_place_does(stock_and_ours: Any) -> None:
    _, ours = stock_and_ours
    shared = torch.randn(1, Z, 2, 4, 6)
    one = ours(**inputs(Z), shared_states=shared, shared_frames=[3, 0]).sample
    swapped = ours(**inputs(Z), shared_states=shared.flip(2), shared_frames=[0, 3]).sample
    elsewhere = ours(**inputs(Z), shared_states=shared, shared_frames=[2, 0]).sample
    torch.testing.assert_close(one, swapped, atol=1e-5, rtol=0)
    assert (one - elsewhere).abs().max() > 1e-3
