"""Procedural textures and shapes, whole batches at a time, on any device.

Shapes: B batch, C channel, H height, W width, K points of a Voronoi cell set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.models.devices import ship
from dreamontage.training.synthetic.captions import COLOURS, SHAPES, SURFACES


def noise(
    batch: int, channels: int, size: int, *, slope: float, generator: torch.Generator
) -> Tensor:
    """Noise of several octaves in [0, 1], (B, C, size, size); amplitude falls as frequency^-slope.

    Slope 1 has the spectrum of natural pictures; larger is smoother.
    """
    device = generator.device
    total = torch.zeros(batch, channels, size, size, device=device)
    cells = 2
    while cells <= size // 2:
        grid = torch.randn(
            batch, channels, cells + 2, cells + 2, generator=generator, device=device
        )
        total += F.interpolate(grid, size=(size, size), mode="bilinear") * cells**-slope
        cells *= 2
    flat = total.flatten(2)
    low, high = flat.amin(2)[..., None, None], flat.amax(2)[..., None, None]
    return (total - low) / (high - low).clamp_min(1e-6)


def grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y over [-1, 1], each (size, size)."""
    line = torch.linspace(-1, 1, size, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def _voronoi(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """A value per cell, darkened toward the borders, (B, size, size)."""
    device = generator.device
    half = size // 2
    x, y = grid(half, device)
    points_BK2 = torch.rand(batch, 28, 2, generator=generator, device=device) * 2 - 1
    values_BK = torch.rand(batch, 28, generator=generator, device=device)
    pixels = torch.stack((x, y), -1).reshape(1, -1, 2).expand(batch, -1, -1)
    near = torch.cdist(pixels, points_BK2).topk(2, dim=2, largest=False)
    value = values_BK.gather(1, near.indices[..., 0])
    border = ((near.values[..., 1] - near.values[..., 0]) * 8).clamp(0.2, 1)
    cells = (value * border).reshape(batch, 1, half, half)
    return F.interpolate(cells, size=(size, size), mode="bilinear")[:, 0]


def _leaves(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Dead leaves: discs and slabs of all sizes over each other, (B, 3, size, size) in [0, 1].

    Sizes follow a power law, which gives the edges and occlusions of natural pictures (Lee, Mumford
    and Huang, "Occlusion models for natural images", 2001).
    """
    device = generator.device
    x, y = grid(size, device)
    count = 36
    params_BK9 = torch.rand(batch, count, 9, generator=generator, device=device)
    # From large to small, so that every size stays visible.
    radius_BK = 1.1 * torch.linspace(0, 1, count, device=device).mul(-2.6).exp()
    radius_BK = radius_BK * (0.7 + 0.6 * params_BK9[..., 0])
    angle_BK = params_BK9[..., 1] * math.pi
    colour_BK3 = params_BK9[..., 6:9]
    vivid_B11 = torch.rand(batch, 1, 1, generator=generator, device=device) ** 0.5
    colour_BK3 = torch.lerp(colour_BK3.mean(2, keepdim=True), colour_BK3, vivid_B11)
    picture = torch.full((batch, 3, size, size), 0.5, device=device)
    for k in range(count):
        at = params_BK9[:, k, :, None, None]
        dx, dy = x - (at[:, 2] * 2.4 - 1.2), y - (at[:, 3] * 2.4 - 1.2)
        c, s = angle_BK[:, k, None, None].cos(), angle_BK[:, k, None, None].sin()
        u, v = (c * dx + s * dy).abs(), (c * dy - s * dx).abs() * (1 + 2 * at[:, 4])
        away = torch.where(at[:, 5] < 0.5, torch.hypot(u, v), torch.maximum(u, v))
        cover = ((radius_BK[:, k, None, None] - away) * size / 3).clamp(0, 1)
        picture = torch.lerp(picture, colour_BK3[:, k, :, None, None], cover[:, None])
    return picture


def surface(kind: int, batch: int, size: int, generator: torch.Generator) -> Tensor:
    """RGB textures of one kind (an index of `captions.SURFACES`), (B, 3, size, size) in [0, 1]."""
    device = generator.device
    name = SURFACES[kind]
    base = noise(batch, 2, size, slope=1.1, generator=generator)
    if name == "leaves":
        leaves = _leaves(batch, size, generator)
        return (leaves + (base[:, :1] - 0.5) * 0.3).clamp(0, 1)
    x, y = grid(size, device)
    params = torch.rand(batch, 6, 1, 1, generator=generator, device=device)
    angle, frequency, phase, warp, hard = (params[:, i] for i in range(5))
    angle = angle * math.pi
    across = x * angle.cos() + y * angle.sin() + base[:, 1] * warp * 0.4
    along = y * angle.cos() - x * angle.sin()
    frequency = 6 + 22 * frequency
    if name == "stripes":
        wave = torch.sin(across * frequency + phase * 6)
        value = torch.sigmoid(wave * (1 + 8 * hard))
    elif name == "a checkerboard":
        wave = torch.sin(across * frequency * 0.7) * torch.sin(along * frequency * 0.7 + phase * 6)
        value = torch.sigmoid(wave * (4 + 20 * hard))
    elif name == "stones":
        value = _voronoi(batch, size, generator)
    elif name == "hills":
        value = (0.5 + 0.4 * y + 0.5 * (base[:, 1] - 0.5)).clamp(0, 1)
        value = (value * (3 + 5 * hard)).floor() / (3 + 5 * hard)
    else:
        value = base[:, 1]
    # A palette of four colours along the value, with fine grain over it.
    palette_B4C = torch.rand(batch, 4, 3, generator=generator, device=device)
    vivid = params[:, 5] ** 0.5
    palette_B4C = torch.lerp(palette_B4C.mean(2, keepdim=True), palette_B4C, vivid)
    place = value.clamp(0, 0.999) * 3
    low = place.long().clamp(0, 2)
    part = (place - low)[:, None]
    rows = torch.arange(batch, device=device)[:, None, None]
    colour = torch.lerp(
        palette_B4C[rows, low].movedim(-1, 1), palette_B4C[rows, low + 1].movedim(-1, 1), part
    )
    grain = 0.15 + 0.5 * params[:, 5:6]
    return (colour + (base[:, :1] - 0.5) * grain).clamp(0, 1)


def _outline(kind: int, angle: Tensor, wobble_BK: Tensor) -> Tensor:
    """Radius of a star-shaped outline at each angle, for one kind of `captions.SHAPES`."""
    name = SHAPES[kind]
    if name in ("square", "triangle"):
        n = 4 if name == "square" else 3
        step = 2 * math.pi / n
        return 0.9 * math.cos(math.pi / n) / torch.cos(angle % step - math.pi / n)
    if name == "star":
        return 0.62 + 0.3 * torch.cos(5 * angle)
    if name == "blob":
        waves = [
            0.1
            * wobble_BK[:, k, None, None]
            * torch.cos((k + 2) * angle + 6 * wobble_BK[:, k + 3, None, None])
            for k in range(3)
        ]
        return 0.68 + torch.stack(waves).sum(0)
    return torch.full_like(angle, 0.9)


def subjects(shapes_B: Tensor, colours_B: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """RGBA pictures of subjects, (B, 4, size, size); alpha is soft over about a pixel."""
    device = generator.device
    batch = shapes_B.shape[0]
    x, y = grid(size, device)
    radius, angle = torch.hypot(x, y), torch.atan2(y, x) + math.pi
    wobble_BK = torch.rand(batch, 6, generator=generator, device=device) * 2 - 1
    alpha = torch.zeros(batch, size, size, device=device)
    every = angle.expand(batch, size, size)
    for kind in range(len(SHAPES)):
        inside = (_outline(kind, every, wobble_BK) - radius) * size / 3
        if SHAPES[kind] == "ring":
            inside = torch.minimum(inside, (radius - 0.5) * size / 3)
        alpha = torch.where((shapes_B == kind)[:, None, None], inside.clamp(0, 1), alpha)
    table = ship(torch.tensor([rgb for _, rgb in COLOURS]), device)
    base = table[colours_B][:, :, None, None]
    grain = noise(batch, 1, size, slope=0.7, generator=generator)
    stripe = torch.sin(x * 9 + wobble_BK[:, :1, None] * 3)[:, None] * 0.12
    shade = (0.55 + 0.3 * (x - y)[None, None] * 0.4 + 0.6 * grain + stripe).clamp(0.2, 1.4)
    return torch.cat(((base * shade).clamp(0, 1), alpha[:, None]), 1)
