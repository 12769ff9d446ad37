"""Procedural one-shot clips, as many as needed, from seeds.

A **world** is a procedural scene: a textured background, parallax layers, moving subjects, eased
camera moves, changes of light and style, and passages from one world to another.

All work is batched torch on any device; the same seed on the same kind of device gives the same
clips. Small draws come from a CPU generator, textures from one on the device. Nothing waits for the
device, so that a trainer's next batch is drawn during the last one's step.

Shapes: B clips, A actions of a clip, N subjects of a clip, M moves of a table, T frames,
C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.models.devices import ship
from dreamontage.training.synthetic import textures
from dreamontage.training.synthetic.captions import (
    CAMERA_MOVES,
    COLOURS,
    EXPRESSIONS,
    FPS,
    LIGHT_MOVES,
    PASSAGES,
    SHAPES,
    STYLES,
    SUBJECT_MOVES,
    SURFACES,
    Action,
    Move,
    word_action,
)
from dreamontage.training.synthetic.scenes import SUBJECTS, Passages, Restyles, Scenes

__all__ = ["Mixture", "Scenes", "clips", "sample"]

ACTIONS = 3  # the most actions in a clip
PHOTO = SURFACES.index("a photo")
_SHORTEST_ACTION = FPS // 2
_WAYS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What a stage trains on.

    expressions: how often each of `captions.EXPRESSIONS` is drawn. strength: how strong the moves
    are, least and most. photos: the share of worlds with a photo, if there are photos.
    """

    expressions: tuple[float, ...] = (0.3, 0.1, 0.2, 0.2, 0.2)
    strength: tuple[float, float] = (0.5, 1.4)
    photos: float = 0.3

    def __post_init__(self) -> None:
        assert len(self.expressions) == len(EXPRESSIONS)


def _weights(table: Sequence[Move], favoured: Sequence[str], rests: float) -> Tensor:
    """Probabilities (M,) of a table's moves: `rests` for entry 0, equal ones for the favoured."""
    chosen = torch.tensor([move.name in favoured if favoured else True for move in table[1:]])
    moving = chosen.float() / chosen.sum() * (1 - rests)
    return F.pad(moving, (1, 0), value=rests)


def _draw_moves(
    table: Sequence[Move], weights_BM: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices (B, A) into `table` and their deltas (B, A, states)."""
    index_BA = torch.multinomial(weights_BM, ACTIONS, True, generator=generator)
    return index_BA, torch.tensor([m.delta for m in table], dtype=torch.float32)[index_BA]


def sample(
    seed: int,
    batch: int,
    *,
    frames: int,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    photos_NCHW: Tensor | None = None,
    mixture: Mixture | None = None,
) -> Scenes:
    """Draw a batch of scenes. `photos_NCHW`: optional bank of square pictures in [0, 1]."""
    device = torch.device(device)
    mixture = mixture or Mixture()
    rng = torch.Generator().manual_seed(seed)
    device_rng = torch.Generator(device).manual_seed(seed)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=rng) * (high - low) + low

    # When the action changes: at most ACTIONS parts of at least half a second.
    most = max(1, min(ACTIONS, frames // (2 * _SHORTEST_ACTION)))
    counts_B = torch.randint(1, most + 1, (batch,), generator=rng)
    cuts = uniform(batch, ACTIONS, low=0.5, high=1.5)
    cuts = cuts * (torch.arange(ACTIONS)[None] < counts_B[:, None])
    stops_BA = (cuts.cumsum(1) / cuts.sum(1, keepdim=True) * frames).round()
    starts_BA = F.pad(stops_BA[:, :-1], (1, 0))
    seconds_BA = (stops_BA - starts_BA) / FPS

    expression_B = torch.multinomial(
        torch.tensor(mixture.expressions, dtype=torch.float32), batch, True, generator=rng
    )
    camera_EM = torch.stack([_weights(CAMERA_MOVES, e.camera, e.camera_rests) for e in EXPRESSIONS])
    second_EM = torch.stack([_weights(CAMERA_MOVES, (), 1 - e.second) for e in EXPRESSIONS])
    subject_EM = torch.stack(
        [_weights(SUBJECT_MOVES, e.subject, e.subject_rests) for e in EXPRESSIONS]
    )
    light_EM = torch.stack([_weights(LIGHT_MOVES, (), 1 - e.light) for e in EXPRESSIONS])
    camera, camera_BA6 = _draw_moves(CAMERA_MOVES, camera_EM[expression_B], rng)
    second, second_BA6 = _draw_moves(CAMERA_MOVES, second_EM[expression_B], rng)
    second = torch.where(second == camera, 0, second)
    camera_BA6 = camera_BA6 + second_BA6 * (second > 0)[..., None]
    subject, subject_BA5 = _draw_moves(SUBJECT_MOVES, subject_EM[expression_B], rng)
    light, light_BA3 = _draw_moves(LIGHT_MOVES, light_EM[expression_B], rng)
    # A longer action goes further. The motion of a short one must still be visible.
    paces = (seconds_BA[..., None] / 1.2).clamp(0, 1.6)
    low, high = mixture.strength
    strength = uniform(batch, ACTIONS, 1, low=low, high=high) * paces

    shapes_BN = torch.randint(len(SHAPES), (batch, SUBJECTS), generator=rng)
    colours_BN = torch.randint(len(COLOURS), (batch, SUBJECTS), generator=rng)
    shown_BN = uniform(batch, SUBJECTS) < torch.tensor([0.85, 0.4])
    sport = [e.name for e in EXPRESSIONS].index("sport")
    shown_BN[expression_B == sport, 0] = True
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

    def surfaces(count: int) -> Tensor:
        kind = (uniform(count) * PHOTO).long()
        if photos_NCHW is not None:
            kind[uniform(count) < mixture.photos] = PHOTO
        return kind

    size = 2 * max(height, width)
    back_kind_B = surfaces(batch)
    back = _surfaces(back_kind_B, size, photos_NCHW, rng, device_rng)
    cover = textures.noise(batch, 1, size, slope=2.0, generator=device_rng)
    level = ship(uniform(batch, 1, 1, 1, low=0.62, high=1.3), device)  # above 1: nothing in front
    front_rgb = textures.surface(SURFACES.index("clouds"), batch, size, device_rng)
    front = torch.cat((front_rgb, ((cover - level) * 12).clamp(0, 1)), 1)
    pictures = textures.subjects(
        ship(shapes_BN.flatten(), device),
        ship(colours_BN.flatten(), device),
        max(height, width) // 2,
        device_rng,
    ).unflatten(0, (batch, SUBJECTS))
    pictures[:, :, 3] *= ship(shown_BN.float(), device)[..., None, None]

    passage_E = torch.tensor([e.passage for e in EXPRESSIONS])
    passing = (uniform(batch) < passage_E[expression_B]).nonzero()[:, 0]
    next_kind_P = surfaces(len(passing))
    passage_kind_P = torch.randint(len(PASSAGES), (len(passing),), generator=rng)
    passage_action_P = (uniform(len(passing)) * counts_B[passing]).long()
    way_P2 = _WAYS[torch.randint(len(_WAYS), (len(passing),), generator=rng)]
    passages = None
    if len(passing):
        melt = textures.noise(len(passing), 1, max(height, width), slope=1.4, generator=device_rng)
        passages = Passages(
            clips_P=ship(passing, device),
            actions_P=ship(passage_action_P, device),
            kinds_P=ship(passage_kind_P, device),
            way_P2=ship(way_P2, device),
            melt_PHW=melt[:, 0, :height, :width],
            next_PCHW=_surfaces(next_kind_P, size, photos_NCHW, rng, device_rng),
        )

    style_E = torch.tensor([e.style for e in EXPRESSIONS])
    styled = (uniform(batch) < style_E[expression_B]).nonzero()[:, 0]
    style_action_S = (uniform(len(styled)) * counts_B[styled]).long()
    before_S = torch.randint(len(STYLES), (len(styled),), generator=rng)
    step_S = torch.randint(1, len(STYLES), (len(styled),), generator=rng)
    styles_S2 = torch.stack((before_S, (before_S + step_S) % len(STYLES)), 1)
    restyles = None
    if len(styled):
        restyles = Restyles(
            clips_S=ship(styled, device),
            actions_S=ship(style_action_S, device),
            styles_S2=ship(styles_S2, device),
        )

    # Plain lists from here on: a caption reads about twenty single values.
    passes = {
        b: (a, PASSAGES[kind][1], SURFACES[surface])
        for b, a, kind, surface in zip(
            *(t.tolist() for t in (passing, passage_action_P, passage_kind_P, next_kind_P)),
            strict=True,
        )
    }
    turns = {
        b: (a, STYLES[after])
        for b, a, (_, after) in zip(
            styled.tolist(), style_action_S.tolist(), styles_S2.tolist(), strict=True
        )
    }
    tables = (camera, second, subject, light, starts_BA.long(), stops_BA.long())
    drawn = [table.tolist() for table in tables]
    names = [
        f"{COLOURS[colour][0]} {SHAPES[shape]}" if shown else None
        for colour, shape, shown in zip(
            colours_BN[:, 0].tolist(),
            shapes_BN[:, 0].tolist(),
            shown_BN[:, 0].tolist(),
            strict=True,
        )
    ]

    def action(b: int, a: int, surface: int) -> Action:
        moves = [row[b][a] for row in drawn]
        over, passage = SURFACES[surface], None
        if b in passes:
            when, words, other = passes[b]
            over = other if a > when else over
            passage = f"{words} {other}" if a == when else None
        style = turns[b][1] if b in turns and turns[b][0] == a else None
        text = word_action(
            camera=CAMERA_MOVES[moves[0]],
            second=CAMERA_MOVES[moves[1]] if moves[1] else None,
            surface=over,
            subject=names[b],
            doing=SUBJECT_MOVES[moves[2]],
            light=LIGHT_MOVES[moves[3]],
            passage=passage,
            style=style,
        )
        return Action(start=moves[4], stop=moves[5], text=text)

    return Scenes(
        frames=frames,
        height=height,
        width=width,
        actions=[
            [action(b, a, surface) for a in range(count)]
            for b, (count, surface) in enumerate(
                zip(counts_B.tolist(), back_kind_B.tolist(), strict=True)
            )
        ],
        expressions=expression_B.tolist(),
        starts_BA=ship(starts_BA, device),
        stops_BA=ship(stops_BA, device),
        easings_BA=ship(torch.randint(4, (batch, ACTIONS), generator=rng), device),
        camera_BA6=ship(camera_BA6 * strength, device),
        subject_BA5=ship(subject_BA5 * strength, device),
        light_BA3=ship(light_BA3 * strength.clamp(max=1), device),
        drift_BN4=ship(torch.cat((place, turn_size), -1), device),
        velocity_BN3=ship(velocity_BN3, device),
        back_BCHW=back,
        front_BCHW=front,
        subjects_BNCHW=pictures,
        passages=passages,
        restyles=restyles,
    )


def _surfaces(
    kinds_B: Tensor,
    size: int,
    photos_NCHW: Tensor | None,
    rng: torch.Generator,
    device_rng: torch.Generator,
) -> Tensor:
    """A texture for each clip, (B, 3, size, size), of its kind in `captions.SURFACES`."""
    device = device_rng.device
    textures_B3SS = torch.empty(len(kinds_B), 3, size, size, device=device)
    for kind in kinds_B.unique().tolist():
        rows = (kinds_B == kind).nonzero()[:, 0]
        if kind == PHOTO:
            assert photos_NCHW is not None
            made = _photos(photos_NCHW, len(rows), size, rng, device)
        else:
            made = textures.surface(kind, len(rows), size, device_rng)
        textures_B3SS[ship(rows, device)] = made
    return textures_B3SS


def _photos(
    photos_NCHW: Tensor, count: int, size: int, rng: torch.Generator, device: torch.device
) -> Tensor:
    """Photos cropped, mirrored and tinted at random, (count, 3, size, size)."""
    draws = torch.rand(count, 8, generator=rng)
    pick = torch.randint(len(photos_NCHW), (count,), generator=rng)
    keep = 0.55 + 0.45 * draws[:, 0]
    flip = torch.where(draws[:, 1] < 0.5, -1.0, 1.0)
    nought = torch.zeros(count)
    at = (draws[:, 2:4] * 2 - 1) * (1 - keep)[:, None]
    theta = torch.stack((keep * flip, nought, at[:, 0], nought, keep, at[:, 1]), 1)
    tint = 0.8 + 0.4 * draws[:, 4:7]
    bank = photos_NCHW.to(device)
    grid = F.affine_grid(
        ship(theta.view(-1, 2, 3), device), [count, 3, size, size], align_corners=False
    )
    crops = F.grid_sample(bank[ship(pick, device)], grid, align_corners=False)
    return (crops * ship(tint, device)[..., None, None]).clamp(0, 1)


def clips(
    seed: int,
    batch: int,
    *,
    frames: int = 33,
    height: int = 64,
    width: int = 64,
    device: torch.device | str = "cpu",
    photos_NCHW: Tensor | None = None,
    mixture: Mixture | None = None,
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
        mixture=mixture,
    )
    return scenes.render(), scenes.prompts(0, frames), [scenes.boundaries(b) for b in range(batch)]
