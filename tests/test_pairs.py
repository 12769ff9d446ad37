"""Preference pairs: a file for DPO and the scorer; all its errors are reported at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dreamontage.training.datasets import pair_store
from dreamontage.training.datasets.pair_making import Pairs
from dreamontage.training.datasets.pairs import MAX_REPORTED, Pair, read_pairs, write_pairs


def pair(**other: object) -> Pair:
    given = {"prompt": "a cat", "winner": "a.mkv", "loser": "b.mkv", "judge": "cuts", "source": "A"}
    return Pair.model_validate({**given, **other})


@pytest.fixture
def pair_folder(tmp_path: Path) -> Path:
    for name in ("a.mkv", "b.mkv", "c.mkv", "conditions.safetensors"):
        (tmp_path / name).write_bytes(b"film")
    return tmp_path


def test_what_is_written_is_read(pair_folder: Path) -> None:
    pairs = [
        pair(prompt="größer\nals du"),
        pair(winner="c.mkv", source="B", judge="Ann", margin=2.5),
        pair(loser="c.mkv", conditions="conditions.safetensors"),
    ]
    write_pairs(pair_folder / "pairs.jsonl", pairs)
    assert read_pairs(pair_folder / "pairs.jsonl") == pairs
    lines = (pair_folder / "pairs.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert set(json.loads(lines[0])) == {"prompt", "winner", "loser", "judge", "source"}


def test_all_errors_are_reported_at_once_with_their_lines(pair_folder: Path) -> None:
    path = pair_folder / "pairs.jsonl"
    good = pair().model_dump(exclude_none=True)
    path.write_text(
        "\n".join(
            [
                json.dumps(good),
                "",
                '{"prompt": "a',
                json.dumps({**good, "source": "C", "jugde": "cuts"}),
                json.dumps({**good, "winner": "nowhere.mkv"}),
                json.dumps({**good, "winner": "c.mkv", "loser": "c.mkv", "margin": -1}),
                json.dumps({**good, "winner": "c.mkv", "loser": "c.mkv"}),
                json.dumps({**good, "winner": "b.mkv", "loser": "a.mkv"}),
                "[1]",
            ]
        )
    )
    with pytest.raises(ValueError, match="line 3") as caught:
        read_pairs(path)
    messages = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}: ").split(": ")[0] for line in messages] == [
        *(
            "line 3 is no JSON",
            "line 4",
            "line 4",
            "line 5",
            "line 6",
            "line 7",
            "line 8",
            "line 9 = a list",
        )
    ]
    assert "source = 'C': Input should be 'A' or 'B'" in messages[1]
    assert "jugde = 'cuts': Extra inputs are not permitted" in messages[2]
    assert messages[3].endswith("winner = 'nowhere.mkv': there is no such file")
    assert "margin = -1" in messages[4]
    assert messages[5].endswith("loser = 'c.mkv' is the winner itself")
    assert messages[6].endswith("winner, loser are the films of line 1, too")


def test_a_file_that_is_not_there(pair_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.jsonl: there is no such file"):
        read_pairs(pair_folder / "nowhere.jsonl")


def test_a_file_of_many_errors_gives_a_short_message(pair_folder: Path) -> None:
    path = pair_folder / "pairs.jsonl"
    path.write_text("no\n" * 1000)
    with pytest.raises(ValueError, match=f"{1000 - MAX_REPORTED} more errors") as caught:
        read_pairs(path)
    assert len(str(caught.value).splitlines()) == MAX_REPORTED + 1
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no pairs"):
        read_pairs(path)


def test_latents_are_stored_with_their_pairs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = Pairs(
        winner_PZLHW=torch.randn(2, 4, 3, 2, 2).half(),
        loser_PZLHW=torch.randn(2, 4, 3, 2, 2).half(),
        condition_PCLHW=torch.randn(2, 5, 3, 2, 2).half(),
        prompts_PSD=torch.randn(2, 6, 8).half(),
    )
    path = pair_store.write(
        tmp_path, made, prompts=["a", "b"], judge="cuts", source="A", margins=[1.5, 0.5]
    )
    assert [line.margin for line in read_pairs(path)] == [1.5, 0.5]
    found = pair_store.read(path)
    for name, values in made.tensors().items():
        assert torch.equal(found.tensors()[name], values), name
    bare = [line.model_copy(update={"conditions": None}) for line in read_pairs(path)]
    write_pairs(path, bare)
    with pytest.raises(ValueError, match="no conditions are given for 0000/winner"):
        pair_store.read(path)
