"""A batch of procedural scenes as functions of time. Any part can be rendered by itself.

Shapes: B clips, A actions of a clip, N subjects of a clip, P clips with a passage to another world,
S clips with a change of style, T frames, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.training.synthetic.captions import Action, prompt_for
from dreamontage.training.synthetic.looks import View, passage_masks, passage_views, restyle

SUBJECTS = 2
_BACK_DEPTH, _FRONT_DEPTH, _SUBJECT_DEPTHS = 3.0, 1.2, (2.0, 1.6)
_PIVOT_DEPTH = 2.0  # an orbit's centre: nearer things move one way, farther the other
_SPAN = 2.0  # a layer's texture covers world coordinates [-2, 2]; beyond that it is mirrored
_ZOOM = (-1.1, 1.5)  # beyond these, mirrored tiles or the texture's pixels would be visible


@dataclass(frozen=True, kw_only=True)
class Passages:
    """The clips with a passage to another world, and its parameters."""

    clips_P: Tensor  # which of the batch
    actions_P: Tensor  # in which action
    kinds_P: Tensor  # indices of `captions.PASSAGES`
    way_P2: Tensor
    melt_PHW: Tensor
    next_PCHW: Tensor  # the other world


@dataclass(frozen=True, kw_only=True)
class Restyles:
    """The clips with a change of style, and its parameters."""

    clips_S: Tensor
    actions_S: Tensor
    styles_S2: Tensor  # indices of `captions.STYLES`: before, after


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """A batch of scenes of `frames` frames each; `render` renders any part."""

    frames: int
    height: int
    width: int
    actions: list[list[Action]]
    expressions: list[int]  # indices of `captions.EXPRESSIONS`
    starts_BA: Tensor
    stops_BA: Tensor
    easings_BA: Tensor
    camera_BA6: Tensor
    subject_BA5: Tensor
    light_BA3: Tensor
    drift_BN4: Tensor  # x, y, turn, size of each subject at frame 0
    velocity_BN3: Tensor  # of the second subject: constant x, y, turn per frame
    back_BCHW: Tensor
    front_BCHW: Tensor  # RGBA
    subjects_BNCHW: Tensor  # RGBA
    passages: Passages | None = None
    restyles: Restyles | None = None

    def boundaries(self, clip: int) -> list[int]:
        """The frames at which clip number `clip` begins, changes its action, and ends."""
        return [a.start for a in self.actions[clip]] + [self.frames - 1]

    def prompts(self, first: int, count: int) -> list[str]:
        """One prompt per clip for frames [first, first+count), with times from `first` on."""
        return [prompt_for(actions, first=first, count=count) for actions in self.actions]

    def unbroken(self) -> list[int]:
        """The clips without a passage to another world or a change of style, which dissolve too."""
        changed: set[int] = set()
        if self.passages is not None:
            changed |= set(self.passages.clips_P.tolist())
        if self.restyles is not None:
            changed |= set(self.restyles.clips_S.tolist())
        return [clip for clip in range(len(self.actions)) if clip not in changed]

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
        frame_BTCHW = self._worlds(camera_BT6, eased_BAT)
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
        frame_BTCHW = (frame_BTCHW * gain_BT3.clamp(0.25, 1.6)[..., None, None]).clamp(0, 1)
        if self.restyles is not None:
            changed = self.restyles.clips_S
            eased_ST = eased_BAT[changed, self.restyles.actions_S]
            frame_BTCHW[changed] = restyle(frame_BTCHW[changed], self.restyles.styles_S2, eased_ST)
        return (frame_BTCHW * 2 - 1).transpose(1, 2).contiguous()

    def _worlds(self, camera_BT6: Tensor, eased_BAT: Tensor) -> Tensor:
        """The far layer, (B, T, 3, H, W): one world, or a passage from one to another."""
        if self.passages is None:
            return self._layer(camera_BT6, _BACK_DEPTH, self.back_BCHW)
        passing = self.passages.clips_P
        kinds_P, way_P2 = self.passages.kinds_P, self.passages.way_P2
        eased_PT = eased_BAT[passing, self.passages.actions_P]
        old, new = passage_views(kinds_P, way_P2, eased_PT)
        batch, count = camera_BT6.shape[:2]
        zoom_BT = camera_BT6.new_ones(batch, count)
        shift_BT2 = camera_BT6.new_zeros(batch, count, 2)
        zoom_BT[passing], shift_BT2[passing] = old.zoom_NT, old.shift_NT2
        first = View(zoom_NT=zoom_BT, shift_NT2=shift_BT2)
        frame_BTCHW = self._layer(camera_BT6, _BACK_DEPTH, self.back_BCHW, view=first)
        other_PTCHW = self._layer(
            camera_BT6[passing], _BACK_DEPTH, self.passages.next_PCHW, view=new
        )
        mask_PT1HW = passage_masks(
            kinds_P, way_P2, eased_PT, self.passages.melt_PHW, aspect=self.width / self.height
        )
        frame_BTCHW[passing] = torch.lerp(frame_BTCHW[passing], other_PTCHW, mask_PT1HW)
        return frame_BTCHW

    def _layer(
        self,
        camera_BT6: Tensor,
        depth: float,
        texture_BCHW: Tensor,
        pose: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
        view: View | None = None,
    ) -> Tensor:
        """The camera's view of one layer at `depth`, (B, T, C, H, W).

        With a pose (x, y, turn, size) the texture is a subject there. Without one it is the whole
        plane, mirrored. `view` changes the screen's coordinates before those of the camera.
        """
        batch, count = camera_BT6.shape[:2]
        x, y, zoom, dolly, roll, orbit = camera_BT6.unbind(-1)
        scale = torch.exp(-zoom.clamp(*_ZOOM)) * (depth - dolly).clamp_min(0.2) / depth
        cos, sin = roll.cos() * scale, roll.sin() * scale
        shift_x = x * 1.5 / depth + orbit * (1 / depth - 1 / _PIVOT_DEPTH)
        shift_y = y * 1.5 / depth
        longest = max(self.height, self.width)
        ax, ay = self.width / longest, self.height / longest
        rows = torch.stack((cos * ax, -sin * ay, shift_x, sin * ax, cos * ay, shift_y), -1)
        theta_BT23 = rows.reshape(batch, count, 2, 3)
        if view is not None:
            turned_BT22 = theta_BT23[..., :2]
            moved_BT21 = theta_BT23[..., 2:] + turned_BT22 @ view.shift_NT2[..., None]
            theta_BT23 = torch.cat((turned_BT22 * view.zoom_NT[..., None, None], moved_BT21), -1)
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
        # The grid is a sum of a row and a column term: much cheaper than affine_grid's product.
        x_W = (torch.arange(self.width, device=x.device) * 2 + 1) / self.width - 1
        y_H = (torch.arange(self.height, device=x.device) * 2 + 1) / self.height - 1
        terms = theta_BT23[..., None, :, :, None]
        grid_BTHW2 = (
            (terms[..., 0, :] * x_W).movedim(-1, -2)
            + terms[..., 2, :].movedim(-1, -2)
            + (terms[..., 1, :] * y_H).movedim(-1, 2)
        )
        # One call per clip, with frames stacked along the height, needs no copies of the texture.
        seen = F.grid_sample(
            texture_BCHW,
            grid_BTHW2.reshape(batch, count * self.height, self.width, 2),
            padding_mode=padding,
            align_corners=False,
        )
        return seen.reshape(batch, channels, count, self.height, self.width).transpose(1, 2)


def _ease(progress: Tensor, kind: Tensor) -> Tensor:
    """Progress 0..1 under one of four easings: linear, in, out, in and out."""
    p = progress.clamp(0, 1)
    return torch.stack((p, p * p, p * (2 - p), p * p * (3 - 2 * p))).gather(0, kind[None])[0]
