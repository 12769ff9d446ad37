"""Procedural worlds: seeded, cuttable anywhere, moving as captioned; and their text side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from dreamontage.models import text
from dreamontage.training.synthetic import captions, looks, worlds
from dreamontage.training.synthetic.captions import (
    CAMERA_MOVES,
    EXPRESSIONS,
    PASSAGES,
    STYLES,
    Action,
    prompt_for,
)
from dreamontage.training.synthetic.worlds import Mixture, Scenes


def test_same_seed_same_clips_and_another_seed_others() -> None:
    first, words, boundaries = worlds.clips(3, 4, frames=17, height=32, width=48)
    again, words_again, boundaries_again = worlds.clips(3, 4, frames=17, height=32, width=48)
    other, _, _ = worlds.clips(4, 4, frames=17, height=32, width=48)
    assert first.shape == (4, 3, 17, 32, 48)
    assert torch.equal(first, again)
    assert (words, boundaries) == (words_again, boundaries_again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1
    assert first.std() > 0.2


def test_any_stretch_renders_as_in_the_whole_clip() -> None:
    scenes = worlds.sample(5, 3, frames=33, height=32, width=32)
    assert torch.allclose(scenes.render(9, 8), scenes.render()[:, :, 9:17], atol=1e-4)


def test_photos_become_worlds() -> None:
    red_NCHW = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 64, 64)
    clips, prompts, _ = worlds.clips(1, 12, frames=5, height=32, width=32, photos_NCHW=red_NCHW)
    shown = [b for b, prompt in enumerate(prompts) if "over a photo" in prompt]
    assert shown
    for b in shown:
        corner = clips[b, :, 0]
        assert (corner[0] > 0.5).float().mean() > 0.3, "a red photo is mostly red"


@pytest.mark.parametrize(
    ("name", "dx", "dy"),
    [("pan_left", 3, 0), ("pan_right", -3, 0), ("tilt_up", 0, 3), ("tilt_down", 0, -3)],
)
def test_the_picture_moves_against_the_camera(name: str, dx: int, dy: int) -> None:
    """With a steady camera move and nothing else, frame 1 is frame 0 shifted the other way."""
    scenes = worlds.sample(11, 2, frames=3, height=48, width=48)
    move = next(move for move in CAMERA_MOVES if move.name == name)
    size = 3 * (2 / 48) * 3.0 / 1.5  # three pixels a frame on the far layer, at depth 3
    still = torch.zeros_like(scenes.camera_BA6)
    moved = still.clone()
    moved[:, 0] = torch.tensor(move.delta).sign() * size * 2
    plain: dict[str, Any] = {
        "easings_BA": torch.zeros_like(scenes.easings_BA),
        "stops_BA": torch.full_like(scenes.stops_BA, 2),
        "starts_BA": torch.zeros_like(scenes.starts_BA),
        "light_BA3": torch.zeros_like(scenes.light_BA3),
        "front_BCHW": scenes.front_BCHW * 0,
        "subjects_BNCHW": scenes.subjects_BNCHW * 0,
    }
    video = replace(scenes, camera_BA6=moved, **plain).render(0, 2)
    shifted = torch.roll(video[:, :, 0], (dy, dx), (2, 3))
    inside = (..., slice(6, -6), slice(6, -6))
    here = (shifted - video[:, :, 1])[inside].abs().mean()
    unmoved = (video[:, :, 0] - video[:, :, 1])[inside].abs().mean()
    assert here < 0.35 * unmoved


PASSING = Mixture(expressions=(0, 0, 0, 0, 1))


def bare(scenes: Scenes) -> Scenes:
    """The far layer alone, with a camera and a light that do not change."""
    return replace(
        scenes,
        camera_BA6=torch.zeros_like(scenes.camera_BA6),
        light_BA3=torch.zeros_like(scenes.light_BA3),
        front_BCHW=scenes.front_BCHW * 0,
        subjects_BNCHW=scenes.subjects_BNCHW * 0,
    )


def test_a_world_passes_into_another_and_says_so() -> None:
    scenes = bare(worlds.sample(2, 24, frames=33, height=32, width=48, mixture=PASSING))
    assert scenes.passages is not None
    assert scenes.restyles is None or len(scenes.restyles.clips_S) < 24
    before = replace(scenes, passages=None, restyles=None).render()
    after = replace(scenes, restyles=None).render()
    clips = scenes.passages.clips_P.tolist()
    kinds = {PASSAGES[kind][0] for kind in scenes.passages.kinds_P.tolist()}
    assert kinds == {"slide", "dive", "wipe", "melt"}
    for place, clip in enumerate(clips):
        action = int(scenes.passages.actions_P[place])
        start, stop = scenes.actions[clip][action].start, scenes.actions[clip][action].stop
        words = PASSAGES[int(scenes.passages.kinds_P[place])][1]
        assert f", it {words} " in scenes.actions[clip][action].text
        assert torch.equal(before[clip, :, : start + 1], after[clip, :, : start + 1])
        if stop < scenes.frames:
            shown = replace(scenes, passages=None, restyles=None).render(stop)
            assert not torch.allclose(after[clip, :, stop:], shown[clip], atol=0.05)
            other = scenes.actions[clip][action].text.split(f", it {words} ")[1].split(",")[0]
            assert f" over {other}" in scenes.actions[clip][action + 1].text
    rest = [clip for clip in range(24) if clip not in clips]
    assert torch.equal(before[rest], after[rest])


@pytest.mark.parametrize("kind", range(len(PASSAGES)))
def test_a_passage_begins_with_nothing_and_ends_with_all(kind: int) -> None:
    kinds_N, eased_NT = torch.tensor([kind]), torch.tensor([[0.0, 0.3, 0.6, 1.0]])
    way_N2 = torch.tensor([[1.0, 0.0]])
    melt_NHW = torch.rand(1, 20, 32, generator=torch.Generator().manual_seed(0))
    mask = looks.passage_masks(kinds_N, way_N2, eased_NT, melt_NHW, aspect=1.6)[0, :, 0]
    shown = mask.mean((1, 2)).tolist()
    assert shown[0] == 0
    assert shown[3] == 1
    assert shown[0] < shown[1] < shown[2] < shown[3]


def test_styles_fade_from_one_to_the_other() -> None:
    frames = torch.rand(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    eased = torch.tensor([[0.0, 0.5, 1.0]])
    grey = looks.restyle(frames, torch.tensor([[0, STYLES.index("a grey film")]]), eased)
    assert torch.equal(grey[:, 0], frames[:, 0])
    assert torch.allclose(grey[0, 2, 0], grey[0, 2, 2])
    assert not torch.allclose(grey[0, 1, 0], grey[0, 1, 2])
    poster = looks.restyle(frames, torch.tensor([[0, STYLES.index("a poster")]]), eased)
    assert len(poster[0, 2].unique()) == 4


def test_a_mixture_draws_its_classes_alone() -> None:
    sport = [e.name for e in EXPRESSIONS].index("sport")
    shares = tuple(float(index == sport) for index in range(len(EXPRESSIONS)))
    scenes = worlds.sample(
        3, 32, frames=33, height=16, width=16, mixture=Mixture(expressions=shares)
    )
    assert set(scenes.expressions) == {sport}
    texts = [action.text for actions in scenes.actions for action in actions]
    assert all(", a " in text for text in texts), "sport has a subject"
    still = sum(" stays" in text for text in texts)
    assert still < 0.15 * len(texts)


def test_a_mixtures_strength_scales_the_moves() -> None:
    weak, strong = (
        worlds.sample(4, 64, frames=33, height=16, width=16, mixture=Mixture(strength=(each, each)))
        for each in (0.5, 1.0)
    )
    assert torch.allclose(2 * weak.camera_BA6, strong.camera_BA6)


def test_boundaries_span_the_clip_and_prompts_carry_their_times() -> None:
    scenes = worlds.sample(7, 16, frames=49, height=16, width=16)
    several = 0
    for b, prompt in enumerate(scenes.prompts(0, 49)):
        marks = scenes.boundaries(b)
        assert marks[0] == 0
        assert marks[-1] == 48
        assert marks == sorted(set(marks))
        several += len(marks) > 2
        assert prompt.startswith("[0, ") == (len(marks) > 2)
        assert "the camera" in prompt
    assert several > 3


def test_a_windows_prompt_counts_from_the_window() -> None:
    actions = [Action(start=0, stop=16, text="zoom in"), Action(start=16, stop=48, text="pan left")]
    assert prompt_for(actions, first=8, count=16) == "[0, 0.5] zoom in; [0.5, 1] pan left"
    assert prompt_for(actions, first=20, count=16) == "pan left"


def test_any_text_encodes_and_every_caption_word_is_one_token(tmp_path: Path) -> None:
    tokenizer = text.build_tokenizer(captions.vocabulary())
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) <= 2000
    for sentence in ("[0, 1.5] the camera pans left", "naïve 日本 🚀 unbelievable!", "", "a\tb  c"):
        ids = loaded(sentence).input_ids
        assert ids == tokenizer(sentence).input_ids
        assert loaded.unk_token_id not in ids
        assert ids[-1] == loaded.eos_token_id
    assert loaded.decode(loaded("naïve 日本!").input_ids, skip_special_tokens=True) == "naïve 日本!"
    for word in captions.vocabulary():
        assert len(loaded(word).input_ids) == 2, word


def test_different_words_have_clearly_different_embeddings() -> None:
    tokenizer = text.build_tokenizer(captions.vocabulary())
    encoder = text.build_encoder(len(tokenizer))
    prompts = [f"the camera {move.words} over clouds" for move in CAMERA_MOVES] + [""]
    states_BSD = text.embed(tokenizer, encoder, prompts)
    assert states_BSD.shape == (len(prompts), text.TEXT_LENGTH, 64)
    assert not states_BSD[-1, 1:].any(), "zeros after the end, as diffusers' pipelines have them"
    alike = torch.nn.functional.cosine_similarity(states_BSD[1, 3], states_BSD[2, 3], dim=0)
    assert prompts[1].split()[3] != prompts[2].split()[3]
    assert alike < 0.5
    same = torch.nn.functional.cosine_similarity(states_BSD[1, 2], states_BSD[2, 2], dim=0)
    assert same > alike + 0.3, "the same word stays itself in another sentence"
    twin = text.build_encoder(len(tokenizer))
    assert torch.equal(text.embed(tokenizer, twin, prompts), states_BSD)
