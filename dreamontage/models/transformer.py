"""The conditioned Wan DiT: diffusers' transformer, grown by condition channels and Shared-RoPE
tokens.

Nothing of diffusers' forward is copied, so a stock Wan checkpoint behaves here as it does there,
bit for bit.

Shape legend: B batch, C channels, F latent frames, N appended condition frames, H W latent height
and width, S tokens, D rotary width of one head.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import ModelMixin, WanTransformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor, nn

from dreamontage.models.devices import ship

# diffusers loads a component of another library only if its module names one of diffusers' bases.
__all__ = ["DreaMontageTransformer3DModel", "ModelMixin", "SharedRotaryPosEmbed"]


class SharedRotaryPosEmbed(WanRotaryPosEmbed):  # type: ignore[misc]
    """Wan's rotary table, in which trailing frames may have the position of earlier ones.

    Shared-RoPE (DreaMontage, section 3.2): the tokens of a condition image are appended to the end
    of the sequence and carry the rotary position of the image's place in time.
    """

    shared_frames: tuple[int, ...] = ()

    @contextmanager
    def sharing(self, frames: Sequence[int]) -> Iterator[None]:
        """For the calls inside, the last ``len(frames)`` frames of the input have the positions
        ``frames``.
        """
        self.shared_frames = tuple(frames)
        try:
            yield
        finally:
            self.shared_frames = ()

    def forward(self, hidden_states_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cos, sin), each (1, S, 1, D), for the tokens of ``hidden_states_BCFHW`` in time-
        major order.
        """
        cos_1S1D, sin_1S1D = super().forward(hidden_states_BCFHW)
        if not self.shared_frames:
            return cos_1S1D, sin_1S1D
        frames = hidden_states_BCFHW.shape[2] // self.patch_size[0]
        own = frames - len(self.shared_frames)
        assert all(0 <= frame < own for frame in self.shared_frames), (
            "a shared position must lie on the grid"
        )
        rows = ship(torch.tensor([*range(own), *self.shared_frames]), cos_1S1D.device)

        def gather(table_1S1D: Tensor) -> Tensor:
            return table_1S1D.unflatten(1, (frames, -1))[:, rows].flatten(1, 2)

        return gather(cos_1S1D), gather(sin_1S1D)


class DreaMontageTransformer3DModel(WanTransformer3DModel):  # type: ignore[misc]
    """``WanTransformer3DModel`` that can also attend to appended condition frames and grow its
    input layer.

    Loads any Wan checkpoint with ``from_pretrained`` and, called as diffusers calls it, returns the
    same bits.
    """

    patch_embedding: nn.Conv3d

    # diffusers filters a checkpoint's config by this signature: a bare *args, **kwargs would drop
    # every key.
    @functools.wraps(WanTransformer3DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rope = SharedRotaryPosEmbed(
            self.config.attention_head_dim, self.config.patch_size, self.config.rope_max_seq_len
        )

    def grow_input(self, in_channels: int) -> None:
        """Give the input layer ``in_channels`` channels; the new ones start at zero weight.

        A text-to-video checkpoint thus accepts condition channels and, until it is tuned, ignores
        them.

        Raises:
            ValueError: if the model already has more channels than that.
        """
        old = self.patch_embedding
        if in_channels < old.in_channels:
            raise ValueError(
                f"in_channels = {in_channels} is less than the model's own {old.in_channels}"
            )
        patch = self.config.patch_size
        new = nn.Conv3d(in_channels, old.out_channels, kernel_size=patch, stride=patch)
        new = new.to(device=old.weight.device, dtype=old.weight.dtype)
        assert old.bias is not None
        assert new.bias is not None
        with torch.no_grad():
            new.weight.zero_()
            new.weight[:, : old.in_channels] = old.weight
            new.bias.copy_(old.bias)
        self.patch_embedding = new
        self.register_to_config(in_channels=in_channels)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        shared_states: Tensor | None = None,
        shared_frames: Sequence[int] = (),
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """As diffusers' forward, with condition frames appended for Shared-RoPE.

        Args:
            hidden_states: (B, C, F, H, W).
            shared_states: (B, C, N, H, W), frames to append to the sequence; they are attended to
                and then cut off.
            shared_frames: for each of the N, the latent frame in 0..F-1 whose rotary position it
                carries.

        Returns:
            The velocity, (B, C_out, F, H, W).
        """
        if shared_states is None:
            return super().forward(
                hidden_states,
                timestep,
                encoder_hidden_states,
                encoder_hidden_states_image,
                return_dict=return_dict,
                attention_kwargs=attention_kwargs,
            )
        frames = hidden_states.shape[2]
        assert shared_states.shape[2] == len(shared_frames)
        with self.rope.sharing(shared_frames):
            (sample,) = super().forward(
                # Tokens are time-major: frames at the end of the time axis are tokens at the end of
                # the sequence.
                torch.cat([hidden_states, shared_states], dim=2),
                timestep,
                encoder_hidden_states,
                encoder_hidden_states_image,
                return_dict=False,
                attention_kwargs=attention_kwargs,
            )
        sample = sample[:, :, :frames]
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)
