"""Endless procedural one-shot clips: textured worlds, parallax, moving subjects, eased moves.

A scene is a function of time, so any stretch of it can be rendered without the frames before it.
All work is batched torch on any device; the same seed on the same kind of device gives the same
clips. Small draws come from a CPU generator, textures from one on the device.

Shapes: B clips, A actions of a clip, N subjects of a clip, T frames, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.training import textures
from dreamontage.training.captions import (
    CAMERA_MOVES,
    COLOURS,
    FPS,
    LIGHT_MOVES,
    SHAPES,
    SUBJECT_MOVES,
    SURFACES,
    Action,
    Move,
    prompt_for,
    word_action,
)

ACTIONS = 3  # the most actions in a clip
SUBJECTS = 2
PHOTO = SURFACES.index("a photo")
_SHORTEST_ACTION = FPS // 2
_BACK_DEPTH, _FRONT_DEPTH, _SUBJECT_DEPTHS = 3.0, 1.2, (2.0, 1.6)
_PIVOT_DEPTH = 2.0  # the depth an orbit turns about: nearer things move one way, farther the other
_SPAN = 2.0  # a layer's texture covers world coordinates [-2, 2]; beyond that it is mirrored


def _ease(progress: Tensor, kind: Tensor) -> Tensor:
    """Progress 0..1 under one of four easings: linear, in, out, in and out."""
    p = progress.clamp(0, 1)
    return torch.stack((p, p * p, p * (2 - p), p * p * (3 - 2 * p))).gather(0, kind[None])[0]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """A batch of scenes of `frames` frames each. Render any stretch with `render`."""

    frames: int
    height: int
    width: int
    actions: list[list[Action]]
    starts_BA: Tensor
    stops_BA: Tensor
    easings_BA: Tensor
    camera_BA6: Tensor
    subject_BA5: Tensor
    light_BA3: Tensor
    drift_BN4: Tensor  # x, y, turn, size of each subject at frame 0
    velocity_BN3: (
        Tensor  # the second subject's steady x, y, turn per frame (the first acts instead)
    )
    back_BCHW: Tensor
    front_BCHW: Tensor  # RGBA
    subjects_BNCHW: Tensor  # RGBA

    def boundaries(self, clip: int) -> list[int]:
        """The frames at which clip number `clip` begins, changes its action, and ends."""
        return [a.start for a in self.actions[clip]] + [self.frames - 1]

    def prompts(self, first: int, count: int) -> list[str]:
        """One prompt per clip for frames [first, first+count), times counted from `first`."""
        return [prompt_for(actions, first=first, count=count) for actions in self.actions]

    def render(self, first: int = 0, count: int | None = None) -> Tensor:
        """Frames [first, first+count) as clips_BCTHW float in [-1, 1] on the scenes' device."""
        count = self.frames - first if count is None else count
        device = self.back_BCHW.device
        time_T = torch.arange(first, first + count, device=device, dtype=torch.float32)
        length_BA = (self.stops_BA - self.starts_BA).clamp_min(1)
        progress = (time_T[None, None] - self.starts_BA[..., None]) / length_BA[..., None]
        eased_BAT = _ease(progress, self.easings_BA[..., None].expand_as(progress))
        camera_BT6 = torch.einsum("bat,bac->btc", eased_BAT, self.camera_BA6)
        subject_BT5 = torch.einsum("bat,bac->btc", eased_BAT, self.subject_BA5)
        hop_BAT = 4 * eased_BAT * (1 - eased_BAT)
        jump_BT = torch.einsum("bat,ba->bt", hop_BAT, self.subject_BA5[..., 2])
        gain_BT3 = 1 + torch.einsum("bat,bac->btc", eased_BAT, self.light_BA3)

        batch = self.back_BCHW.shape[0]
        frame_BTCHW = self._layer(camera_BT6, _BACK_DEPTH, self.back_BCHW)
        for n in range(SUBJECTS):
            x_BT, y_BT, turn_BT = (
                self.drift_BN4[:, n, i, None] + self.velocity_BN3[:, n, i, None] * time_T
                for i in range(3)
            )
            size_BT = self.drift_BN4[:, n, 3, None].expand(batch, count)
            if n == 0:
                x_BT, y_BT = x_BT + subject_BT5[..., 0], y_BT + subject_BT5[..., 1] - jump_BT
                turn_BT = turn_BT + subject_BT5[..., 3]
                size_BT = size_BT * subject_BT5[..., 4].exp()
            pose = (x_BT, y_BT, turn_BT, size_BT)
            over = self._layer(camera_BT6, _SUBJECT_DEPTHS[n], self.subjects_BNCHW[:, n], pose)
            frame_BTCHW = torch.lerp(frame_BTCHW, over[:, :, :3], over[:, :, 3:])
        over = self._layer(camera_BT6, _FRONT_DEPTH, self.front_BCHW)
        frame_BTCHW = torch.lerp(frame_BTCHW, over[:, :, :3], over[:, :, 3:])
        frame_BTCHW = frame_BTCHW * gain_BT3.clamp(0.25, 1.6)[..., None, None]
        return (frame_BTCHW.clamp(0, 1) * 2 - 1).transpose(1, 2).contiguous()

    def _layer(
        self,
        camera_BT6: Tensor,
        depth: float,
        texture_BCHW: Tensor,
        pose: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """What the camera sees of one layer at `depth`, (B, T, C, H, W).

        With a pose (x, y, turn, size) the texture is a subject there; without, it is the whole
        mirrored plane.
        """
        batch, count = camera_BT6.shape[:2]
        x, y, zoom, dolly, roll, orbit = camera_BT6.unbind(-1)
        scale = torch.exp(-zoom) * (depth - dolly).clamp_min(0.2) / depth
        cos, sin = roll.cos() * scale, roll.sin() * scale
        shift_x = x * 1.5 / depth + orbit * (1 / depth - 1 / _PIVOT_DEPTH)
        shift_y = y * 1.5 / depth
        longest = max(self.height, self.width)
        ax, ay = self.width / longest, self.height / longest
        rows = torch.stack((cos * ax, -sin * ay, shift_x, sin * ax, cos * ay, shift_y), -1)
        theta_BT23 = rows.reshape(batch, count, 2, 3)
        if pose is None:
            theta_BT23 = theta_BT23 / _SPAN
            padding = "reflection"
        else:
            at_x, at_y, turn, size = pose
            moved = theta_BT23 - F.pad(torch.stack((at_x, at_y), -1)[..., None], (2, 0))
            c, s = turn.cos() / size, turn.sin() / size
            theta_BT23 = torch.stack((c, s, -s, c), -1).reshape(batch, count, 2, 2) @ moved
            padding = "zeros"
        channels = texture_BCHW.shape[1]
        # The grid is a sum of a row and a column term: far cheaper than affine_grid's product.
        x_W = (torch.arange(self.width, device=x.device) * 2 + 1) / self.width - 1
        y_H = (torch.arange(self.height, device=x.device) * 2 + 1) / self.height - 1
        terms = theta_BT23[..., None, :, :, None]
        grid_BTHW2 = (
            (terms[..., 0, :] * x_W).movedim(-1, -2)
            + terms[..., 2, :].movedim(-1, -2)
            + (terms[..., 1, :] * y_H).movedim(-1, 2)
        )
        # One sampling per clip, its frames stacked along the height, spares copies of the texture.
        seen = F.grid_sample(
            texture_BCHW,
            grid_BTHW2.reshape(batch, count * self.height, self.width, 2),
            padding_mode=padding,
            align_corners=False,
        )
        return seen.reshape(batch, channels, count, self.height, self.width).transpose(1, 2)


def _draw_moves(
    table: Sequence[Move], batch: int, calm: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices (B, A) into `table`, entry 0 with chance `calm`, and their deltas (B, A, states)."""
    weights = torch.full((len(table),), (1 - calm) / (len(table) - 1))
    weights[0] = calm
    index = torch.multinomial(weights.expand(batch, -1), ACTIONS, True, generator=generator)
    return index, torch.tensor([m.delta for m in table], dtype=torch.float32)[index]


def sample(
    seed: int,
    batch: int,
    *,
    frames: int,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    photos_NCHW: Tensor | None = None,
) -> Scenes:
    """Draw a batch of scenes. `photos_NCHW`: optional bank of square pictures in [0, 1]."""
    device = torch.device(device)
    rng = torch.Generator().manual_seed(seed)
    device_rng = torch.Generator(device).manual_seed(seed)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=rng) * (high - low) + low

    # When the action changes: at most ACTIONS stretches of at least half a second.
    most = max(1, min(ACTIONS, frames // (2 * _SHORTEST_ACTION)))
    counts_B = torch.randint(1, most + 1, (batch,), generator=rng)
    cuts = uniform(batch, ACTIONS, low=0.5, high=1.5)
    cuts = cuts * (torch.arange(ACTIONS)[None] < counts_B[:, None])
    stops_BA = (cuts.cumsum(1) / cuts.sum(1, keepdim=True) * frames).round()
    starts_BA = F.pad(stops_BA[:, :-1], (1, 0))
    seconds_BA = (stops_BA - starts_BA) / FPS

    camera, camera_BA6 = _draw_moves(CAMERA_MOVES, batch, 0.12, rng)
    second, second_BA6 = _draw_moves(CAMERA_MOVES, batch, 0.7, rng)
    second = torch.where(second == camera, 0, second)
    camera_BA6 = camera_BA6 + second_BA6 * (second > 0)[..., None]
    subject, subject_BA5 = _draw_moves(SUBJECT_MOVES, batch, 0.15, rng)
    light, light_BA3 = _draw_moves(LIGHT_MOVES, batch, 0.9, rng)
    # A longer action goes further; short ones must still be seen to move.
    paces = (seconds_BA[..., None] / 1.2).clamp(0, 1.6)
    strength = uniform(batch, ACTIONS, 1, low=0.5, high=1.4) * paces

    shapes_BN = torch.randint(len(SHAPES), (batch, SUBJECTS), generator=rng)
    colours_BN = torch.randint(len(COLOURS), (batch, SUBJECTS), generator=rng)
    shown_BN = uniform(batch, SUBJECTS) < torch.tensor([0.85, 0.4])
    place = uniform(batch, SUBJECTS, 2, low=-0.5, high=0.5)
    turn_size = torch.stack(
        (
            uniform(batch, SUBJECTS, low=-0.5, high=0.5),
            uniform(batch, SUBJECTS, low=0.2, high=0.45),
        ),
        -1,
    )
    velocity_BN3 = uniform(batch, SUBJECTS, 3, low=-1, high=1) * torch.tensor([0.02, 0.015, 0.05])
    velocity_BN3[:, 0] = 0

    size = 2 * max(height, width)
    kinds = uniform(batch, 2)
    back_kind_B = (kinds[:, 0] * PHOTO).long()
    if photos_NCHW is not None:
        back_kind_B[uniform(batch) < 0.3] = PHOTO
    back = torch.empty(batch, 3, size, size, device=device)
    for kind in back_kind_B.unique().tolist():
        rows = (back_kind_B == kind).nonzero()[:, 0]
        if kind == PHOTO:
            assert photos_NCHW is not None
            pick = torch.randint(len(photos_NCHW), (len(rows),), generator=rng)
            bank = photos_NCHW.to(device)[pick.to(device)]
            made = F.interpolate(bank, size=(size, size), mode="bilinear", antialias=True)
        else:
            made = textures.surface(kind, len(rows), size, device_rng)
        back[rows.to(device)] = made
    cover = textures.noise(batch, 1, size, slope=2.0, generator=device_rng)
    level = uniform(batch, 1, 1, 1, low=0.62, high=1.3).to(device)  # above 1: nothing in front
    front_rgb = textures.surface(SURFACES.index("clouds"), batch, size, device_rng)
    front = torch.cat((front_rgb, ((cover - level) * 12).clamp(0, 1)), 1)
    pictures = textures.subjects(
        shapes_BN.flatten().to(device),
        colours_BN.flatten().to(device),
        max(height, width) // 2,
        device_rng,
    ).unflatten(0, (batch, SUBJECTS))
    pictures[:, :, 3] *= shown_BN.to(device)[..., None, None]

    def words(b: int, a: int) -> str:
        name = f"{COLOURS[int(colours_BN[b, 0])][0]} {SHAPES[int(shapes_BN[b, 0])]}"
        return word_action(
            camera=CAMERA_MOVES[int(camera[b, a])],
            second=CAMERA_MOVES[int(second[b, a])] if second[b, a] else None,
            surface=SURFACES[int(back_kind_B[b])],
            subject=name if shown_BN[b, 0] else None,
            doing=SUBJECT_MOVES[int(subject[b, a])],
            light=LIGHT_MOVES[int(light[b, a])],
        )

    actions = [
        [
            Action(start=int(starts_BA[b, a]), stop=int(stops_BA[b, a]), text=words(b, a))
            for a in range(int(counts_B[b]))
        ]
        for b in range(batch)
    ]
    return Scenes(
        frames=frames,
        height=height,
        width=width,
        actions=actions,
        starts_BA=starts_BA.to(device),
        stops_BA=stops_BA.to(device),
        easings_BA=torch.randint(4, (batch, ACTIONS), generator=rng).to(device),
        camera_BA6=(camera_BA6 * strength).to(device),
        subject_BA5=(subject_BA5 * strength).to(device),
        light_BA3=(light_BA3 * strength.clamp(max=1)).to(device),
        drift_BN4=torch.cat((place, turn_size), -1).to(device),
        velocity_BN3=velocity_BN3.to(device),
        back_BCHW=back,
        front_BCHW=front,
        subjects_BNCHW=pictures,
    )


def clips(
    seed: int,
    batch: int,
    *,
    frames: int = 33,
    height: int = 64,
    width: int = 64,
    device: torch.device | str = "cpu",
    photos_NCHW: Tensor | None = None,
) -> tuple[Tensor, list[str], list[list[int]]]:
    """clips_BCTHW in [-1, 1], one time-stamped prompt each, and each clip's action boundaries."""
    scenes = sample(
        seed,
        batch,
        frames=frames,
        height=height,
        width=width,
        device=device,
        photos_NCHW=photos_NCHW,
    )
    return scenes.render(), scenes.prompts(0, frames), [scenes.boundaries(b) for b in range(batch)]
