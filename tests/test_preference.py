"""Two judges learn from real pairs: a policy by its implicit reward, and a Bradley-Terry head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn

from dreamontage.models.codec import LinearCodec
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.scorer import MEASURES, Better, Film, Score, measure
from dreamontage.scorer.preference import (
    FEATURES,
    PreferenceHead,
    features,
    implicit_reward,
)
from dreamontage.training.datasets.pairs import Pair, write_pairs
from dreamontage.training.objectives.preference import flow_dpo
from dreamontage.training.scorers import bradley_terry
from dreamontage.training.synthetic import cuts, worlds
from tests.support.scorer_films import FPS, pan, through_codec, write

CODEC = Path(__file__).parents[1] / "weights" / "nano" / "vae"


def test_a_policy_that_is_its_reference_rewards_nothing() -> None:
    """And a LoRA whose adapter is off is the reference, to the bit."""
    torch.manual_seed(0)
    model = DreaMontageTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
    ).eval()
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    prompts_BSD = torch.randn(2, 3, 8)

    def velocity(noisy_BZLHW: Tensor, times_B: Tensor) -> Tensor:
        return model(noisy_BZLHW, times_B * 1000, prompts_BSD, return_dict=False)[0]

    def reference(noisy_BZLHW: Tensor, times_B: Tensor) -> Tensor:
        model.disable_adapters()
        out = velocity(noisy_BZLHW, times_B)
        model.enable_adapters()
        return out

    latents_BZLHW = torch.randn(2, 4, 3, 4, 4)
    same = implicit_reward(reference, reference, latents_BZLHW, beta=500)
    assert torch.equal(same, torch.zeros(2))
    tuned = implicit_reward(velocity, reference, latents_BZLHW, beta=500)
    assert tuned.all()
    # Of a batch each film is rewarded as it is alone, and twice the same.
    alone = implicit_reward(
        lambda x, t: model(x, t * 1000, prompts_BSD[:1], return_dict=False)[0],
        lambda x, t: reference(x.expand(2, -1, -1, -1, -1), t.expand(2))[:1],
        latents_BZLHW[:1],
        beta=500,
    )
    assert torch.allclose(tuned[:1], alone, rtol=1e-3)
    double = implicit_reward(velocity, reference, latents_BZLHW, beta=1000)
    assert torch.allclose(double, 2 * tuned)
    with pytest.raises(ValueError, match=r"times = \(1.0,\) must lie between"):
        implicit_reward(velocity, reference, latents_BZLHW, beta=1, times=(1.0,))


class Net(nn.Module):
    """A denoiser with two latents on either side as inputs: enough to detect a cut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(channels + 1, 32, (5, 1, 1), padding=(2, 0, 0)),
            nn.GELU(),
            nn.Conv3d(32, channels, (3, 1, 1), padding=(1, 0, 0)),
        )

    def forward(self, noisy_BZLHW: Tensor, times_B: Tensor) -> Tensor:
        level = times_B[:, None, None, None, None].expand_as(noisy_BZLHW[:, :1])
        return self.layers(torch.cat((noisy_BZLHW, level), 1))


def cut_pairs(codec: LinearCodec, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Latents of clips, and of the same clips with a cut."""
    shots = worlds.Mixture(expressions=(1.0, 0.0, 0.0, 0.0, 0.0))
    clips, _, _ = worlds.clips(seed, count, frames=33, height=32, width=32, mixture=shots)
    made = cuts.add_cuts(
        clips,
        clips.roll(1, 0),
        generator=torch.Generator().manual_seed(seed),
        levels_B=torch.full((count,), 4),
        kinds=[cuts.CutKind.CUT],
    )
    std_Z111 = torch.tensor(codec.config.latents_std)[:, None, None, None]
    good, bad = (codec.encode(x.clamp(-1, 1), False)[0].mean for x in (clips, made.clips_BCTHW))
    return good[:, :16] / std_Z111[:16], bad[:, :16] / std_Z111[:16]


def velocity_error(net: Net, latents: Tensor, noise: Tensor, times_B: Tensor) -> Tensor:
    noisy = torch.lerp(latents, noise, times_B[:, None, None, None, None])
    return (net(noisy, times_B) - (noise - latents)).square().flatten(1).mean(1)


def test_flow_dpo_teaches_a_policy_to_reward_films_without_cuts() -> None:
    codec = LinearCodec.from_pretrained(CODEC)
    good, bad = cut_pairs(codec, 1, 48)
    torch.manual_seed(0)
    reference, policy = Net(16), Net(16)
    optimiser = torch.optim.Adam(reference.parameters(), 3e-3)
    for _ in range(60):  # the reference has seen both
        latents = torch.cat((good, bad))
        noise, times_B = torch.randn_like(latents), torch.rand(len(latents))
        loss = velocity_error(reference, latents, noise, times_B).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    policy.load_state_dict(reference.state_dict())
    optimiser = torch.optim.Adam(policy.parameters(), 1e-3)
    beta = 200
    for step in range(60):
        noise, times_B = torch.randn_like(good), torch.rand(len(good))

        errors = [
            velocity_error(net, side, noise, times_B)
            for net in (policy, reference)
            for side in (good, bad)
        ]
        loss = flow_dpo(*errors[:2], *(error.detach() for error in errors[2:]), beta=beta)[0].mean()
        if step == 0:
            assert loss.item() == pytest.approx(0.6931, abs=1e-4), "it starts at ln 2"
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    new_good, new_bad = cut_pairs(codec, 2, 48)
    rewards = [implicit_reward(policy, reference, side, beta=beta) for side in (new_good, new_bad)]
    assert (rewards[0] > rewards[1]).float().mean() > 0.8
    # The control: without tuning nothing tells them apart.
    assert not implicit_reward(reference, reference, new_good, beta=beta).any()


def test_what_the_winner_loses_counts_against_the_margin() -> None:
    """Both become worse, the loser more: the margin grows, and no film is good."""
    reference = torch.tensor([1.0, 1.0, 1.0])
    winner, loser = torch.tensor([1.1, 0.9, 1.0]), torch.tensor([1.4, 1.0, 1.0])
    plain, margin = flow_dpo(winner, loser, reference, reference, beta=10)
    held, same = flow_dpo(winner, loser, reference, reference, beta=10, hold=5)
    assert torch.allclose(margin, torch.tensor([3.0, 1.0, 0.0]), atol=1e-5)
    assert torch.equal(margin, same), "what is reported is the preference itself"
    assert torch.allclose(held[0], -torch.nn.functional.logsigmoid(margin[0] - 5))
    assert torch.equal(held[1:], plain[1:]), "where the winner has lost nothing"


@pytest.fixture(scope="module")
def pairs() -> list[bradley_terry.ScoredPair]:
    return list(bradley_terry.synthetic_pairs(11, 20, codec=None, frames=17, height=32, width=32))


def test_a_head_learns_from_pairs_and_knows_others(pairs: list[bradley_terry.ScoredPair]) -> None:
    head = bradley_terry.fit(pairs[:10])
    assert bradley_terry.accuracy(head, pairs[10:]) >= 0.75
    assert head.weights["cut_severity"] < 0
    # The controls: a head that learned from pairs the wrong way round, and one that knows nothing.
    swapped = [
        bradley_terry.ScoredPair(source=pair.source, winner=pair.loser, loser=pair.winner)
        for pair in pairs[:10]
    ]
    assert bradley_terry.accuracy(bradley_terry.fit(swapped), pairs[10:]) <= 0.25
    idle = PreferenceHead(weights=dict.fromkeys(FEATURES, 0.0))
    assert bradley_terry.accuracy(idle, pairs[10:]) == 0.5


def test_a_chance_is_bradley_terrys(pairs: list[bradley_terry.ScoredPair], tmp_path: Path) -> None:
    head = bradley_terry.fit(pairs)
    one, other = pairs[0].winner, pairs[0].loser
    assert head.preferred(one, other) + head.preferred(other, one) == pytest.approx(1)
    assert head.preferred(one, one) == 0.5
    score = head.score(one)
    assert (score.name, score.better) == ("preference", Better.HIGHER)
    assert score.value == pytest.approx(head.reward(one))
    head.save(tmp_path / "head.json")
    assert PreferenceHead.load(tmp_path / "head.json") == head
    with pytest.raises(ValueError, match="is not there"):
        PreferenceHead.load(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match=r"scores: .* was not measured"):
        features([Score(name="cuts", value=0, unit="", better=Better.LOWER)])
    with pytest.raises(ValueError, match="at least one"):
        bradley_terry.fit([])


def test_the_shipped_head_scores_defects_lower() -> None:
    head = PreferenceHead.load()
    assert tuple(head.weights) == FEATURES
    assert head.weights["cut_severity"] < 0
    assert head.weights["motion_jolt"] < 0


def test_a_file_of_pairs_trains_a_head(tmp_path: Path) -> None:
    shot, other = pan(0, 33), pan(50, 33)
    cut = shot.copy()
    cut[16:] = other[16:]
    write(tmp_path / "good.mkv", shot)
    write(tmp_path / "bad.mkv", through_codec(cut))
    write_pairs(
        tmp_path / "pairs.jsonl",
        [Pair(prompt="", winner="good.mkv", loser="bad.mkv", judge="Ann", source="A")],
    )
    (pair,) = bradley_terry.read_scored(tmp_path / "pairs.jsonl")
    film = Film(path=tmp_path / "good.mkv", fps=FPS)
    assert pair.winner == measure(film, MEASURES)
    head = bradley_terry.fit([pair])
    assert head.preferred(pair.winner, pair.loser) > 0.5
