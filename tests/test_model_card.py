"""The card beside exported weights, as tools and people read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from dreamontage.training.loop.model_card import CardFacts, model_card

FACTS: dict[str, Any] = {
    "recipe": "nano_expression_cpu",
    "step": 1200,
    "examples": 38448,
    "training_seconds": 90,
    "hardware": "1 thread(s) of a shared CPU",
    "scores": {"loss": 0.51234, "motion": 0.58},
    "untrained": {"loss": 2.03, "motion": 0.04},
    "before": [
        {
            "recipe": "nano_base_cpu",
            "step": 48,
            "examples": 58944,
            "training_seconds": 48,
            "hardware": "a GPU",
        }
    ],
}


def about(**changes: Any) -> CardFacts:
    given = {"release_stage": "smoke", "parameters": 13_200_000, "photos": 0, "z_dim": 48}
    return CardFacts(**{**given, "finished": False, **changes})


def test_a_card_says_what_the_run_wrote_down(tmp_path: Path) -> None:
    model_card(FACTS, about(photos=192, finished=True)).save(tmp_path / "README.md")
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert "# nano_expression_cpu" in lines
    assert any(line.startswith("**smoke: barely trained.**") for line in lines)
    assert "A Wan DiT of 13.2 M parameters for" in lines
    assert (
        "| data | procedural one-shot clips (`dreamontage/training/synthetic/worlds.py`), 16 fps, "
        "and 192 squares of photos moved alike |"
    ) in lines
    assert "| before it | `nano_base_cpu`: 58,944 examples in 48 steps, 0.8 min of a GPU |" in lines
    assert "| seen | 38,448 examples in 1,200 steps |" in lines
    assert "| hardware | 1 thread(s) of a shared CPU, 1.5 min by the clock |" in lines
    assert any(
        line.startswith("| loss | 0.5123 | 2.03 | squared error of the vel") for line in lines
    )
    assert any("and a finish that has learnt to mend" in line for line in lines)


def test_a_card_of_released_weights_has_no_warning() -> None:
    text = str(model_card({**FACTS, "before": []}, about(release_stage=None)))
    assert "smoke" not in text
    assert "before it" not in text
    assert "photos moved alike" not in text
    assert "a linear decoder,\n" in text


def test_tools_read_scores_from_the_cards_head(tmp_path: Path) -> None:
    model_card(FACTS, about()).save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("diffusers", "image-to-video")
    assert data.eval_results is not None
    found = {each.metric_type: each.metric_value for each in data.eval_results}
    assert found == FACTS["scores"]
