"""A shot that is rendered coarse first: in a notebook, in this process and on the farm."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from db.states import SegmentState
from dreamontage import DreaMontagePipeline, Keyframe, media
from dreamontage.pipeline.sar import fuse
from dreamontage.planning.segments import Segment
from dreamontage.rendering import local
from dreamontage.rendering.take_plan import Stage
from dreamontage.storyboard import Storyboard, load
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard

STEPS = 6
FINE_STEPS = 1
"""Of the tiny model's six steps, those that begin at a noise level of at most 0.6."""


def coarse_board(write_board: WriteBoard, name: str = "board", **fields: Any) -> Path:
    """64 frames between two keyframes; a window of the tiny model holds 17 of them."""
    shot = {
        "name": "walk",
        "duration": {"frames": 65},
        "prompts": "[0, 2] pan left; [2, 4] zoom in",
        "keyframes": [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 63}],
        **fields,
    }
    return write_board(name, shots=[shot])


@pytest.fixture
def coarse_pipe(tiny_ours: Path) -> DreaMontagePipeline:
    return DreaMontagePipeline.from_pretrained(tiny_ours, dtype=torch.float32)


@pytest.fixture
def coarse_farm(database_url: str, tmp_path: Path, tiny_ours: Path) -> Any:
    settings = Settings(home=tmp_path / "home", weights=tiny_ours, database_url=database_url)
    with open_farm(settings) as farm:
        yield farm


def render(
    pipe: DreaMontagePipeline, path: Path, out: Path, calls: list[tuple[str, int, int]]
) -> dict[str, Any]:
    """The shot's record; `calls` gets what was reported."""
    made, _ = local.render(
        load(path),
        path.parent,
        out,
        pipe,
        name="film",
        max_takes=1,
        progress=lambda *call: calls.append(call),
    )
    shot: dict[str, Any] = json.loads(made.record.read_text())["shots"][0]
    return shot


def steps_run(calls: list[tuple[str, int, int]]) -> dict[str, int]:
    """Denoise steps by segment."""
    found: dict[str, int] = {}
    for what, done, total in calls:
        if done and total > 1:
            found[what] = found.get(what, 0) + 1
    return found


def in_a_notebook(pipe: DreaMontagePipeline, board: Storyboard, base: Path) -> torch.Tensor:
    shot = board.shots[0]
    stills = [
        Keyframe(image=media.read_image(base / each.image), frame=shot.frame_of(each, board.fps))
        for each in shot.keyframes
    ]
    latents: torch.Tensor = pipe(
        prompt="[0, 2] pan left; [2, 4] zoom in",
        conditions=stills,
        height=board.size.height,
        width=board.size.width,
        num_frames=shot.frames(board.fps),
        seed=board.shot_seed(0),
        coarse=shot.coarse,
        output_type="latent",
    ).frames
    return latents


def test_a_far_shot_is_rendered_coarse_first_and_as_in_a_notebook(
    coarse_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    path, calls = coarse_board(write_board, coarse=4), list[tuple[str, int, int]]()
    record = render(coarse_pipe, path, tmp_path / "out", calls)
    run = steps_run(calls)
    assert {name for name in run if "coarse" in name} == {
        "walk, coarse segment 1 of 2",
        "walk, coarse segment 2 of 2",
    }
    assert run["walk, coarse segment 1 of 2"] == STEPS
    fine = [steps for name, steps in run.items() if "coarse" not in name]
    assert fine == [FINE_STEPS] * len(record["segments"])
    assert record["coarse"][-1]["stop"] == 5, "17 frames"

    windows = [
        (
            Segment(
                index=index,
                start=each["start"],
                stop=each["stop"],
                tail=each["tail"],
                prompt="",
                conditions=(),
                seed=0,
            ),
            load_file(tmp_path / "out" / "segments" / f"{each['key']}.safetensors")["latents"],
        )
        for index, each in enumerate(record["segments"])
    ]
    made = torch.cat(list(fuse(windows)), dim=2)
    assert torch.equal(made, in_a_notebook(coarse_pipe, load(path), path.parent))


def test_off_is_the_film_without_it_and_auto_is_a_stride(
    coarse_pipe: DreaMontagePipeline, write_board: WriteBoard
) -> None:
    films = {}
    for coarse in ("off", "auto", 2, 4):
        path = coarse_board(write_board, f"board-{coarse}", coarse=coarse)
        films[coarse] = in_a_notebook(coarse_pipe, load(path), path.parent)
    assert torch.equal(films["auto"], films[4]), "63 frames are 16 latents, 4 at stride 4"
    assert not torch.equal(films["auto"], films["off"])
    assert not torch.equal(films[2], films[4])


def test_a_stopped_render_of_the_fine_level_continues(
    coarse_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    path = coarse_board(write_board, coarse=4)
    whole = render(coarse_pipe, path, tmp_path / "whole", [])
    calls: list[tuple[str, int, int]] = []

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("walk, segment 2 of") and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.render(
            load(path),
            path.parent,
            tmp_path / "out",
            coarse_pipe,
            name="film",
            max_takes=1,
            progress=stop,
        )
    again = render(coarse_pipe, path, tmp_path / "out", calls)
    assert again["segments"] == whole["segments"]
    run = steps_run(calls)
    assert not any("coarse" in name for name in run), "the coarse film is found"
    assert "walk, segment 1 of" not in " ".join(run)
    # All of the shot is there, so a lost coarse film is not missed.
    for each in again["coarse"]:
        (tmp_path / "out" / "segments" / f"{each['key']}.safetensors").unlink()
    calls.clear()
    render(coarse_pipe, path, tmp_path / "out", calls)
    assert steps_run(calls) == {}


def test_a_draft_is_what_the_coarse_level_starts_from(
    coarse_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = []
    for fields in ({}, {"draft": "auto"}, {"draft": "auto", "strength": 0.5}):
        path = coarse_board(write_board, f"board{len(records)}", coarse=4, **fields)
        calls: list[tuple[str, int, int]] = []
        records.append(render(coarse_pipe, path, tmp_path / "out", calls))
        drafted = steps_run(calls)["walk, coarse segment 1 of 2"]
        assert drafted == (FINE_STEPS if fields else STEPS)
    keys = {each["coarse"][0]["key"] for each in records}
    assert len(keys) == 3
    assert len({each["segments"][0]["key"] for each in records}) == 3


def test_a_video_draft_is_read_at_the_coarse_frames(
    coarse_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    path = coarse_board(write_board, coarse=4, draft="film.mkv")
    frames_THWC = np.random.default_rng(0).integers(0, 255, (65, 64, 80, 3), dtype=np.uint8)
    with media.Encoder(
        path.parent / "film.mkv", width=80, height=64, fps=Fraction(16), profile="mezzanine"
    ) as encoder:
        encoder.write(frames_THWC)
    record = render(coarse_pipe, path, tmp_path / "out", [])
    shot = load(path).shots[0]
    stills = [
        Keyframe(image=media.read_image(path.parent / each.image), frame=frame)
        for each, frame in zip(shot.keyframes, (0, 63), strict=True)
    ]
    latents = coarse_pipe(
        prompt="[0, 2] pan left; [2, 4] zoom in",
        conditions=stills,
        height=64,
        width=80,
        num_frames=65,
        seed=load(path).shot_seed(0),
        coarse=4,
        draft=list(frames_THWC),
        output_type="latent",
    ).frames
    first = record["segments"][0]
    stored = load_file(tmp_path / "out" / "segments" / f"{first['key']}.safetensors")["latents"]
    clear = first["stop"] - record["segments"][1]["tail"]
    assert torch.equal(stored[:, :, :clear], latents[:, :, :clear])


def test_the_farm_renders_the_same_segments(
    coarse_farm: Farm, coarse_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    path = coarse_board(write_board, coarse=4)
    here = render(coarse_pipe, path, tmp_path / "out", [])
    farm = coarse_farm
    (submitted,) = submit(farm, path)
    (shot,) = farm.repository.shots(submitted.id)
    take = steps.begin_take(farm, shot.id, 0)
    for each in take.segments:
        if each.index and each.number == 0:
            assert steps.make_drafts(farm, take, each.stage) == len(here["segments"])
            assert steps.make_drafts(farm, take, each.stage) == 0
        steps.render_segment(farm, take, each)
    assert [each.stage for each in take.segments] == [
        *[Stage.COARSE] * len(here["coarse"]),
        *[Stage.BASE] * len(here["segments"]),
    ]
    assert take.plan.keys == [each["key"] for each in here["coarse"] + here["segments"]]
    for key in take.plan.keys:
        row = farm.repository.segment(key)
        assert row.state is SegmentState.DONE
        assert row.enlarged_address is None, "a draft is deleted with its use"
    steps.decode_take(farm, take)
    steps.gate_take(farm, take, takes_left=0)
    steps.assemble(farm, submitted.id)


def test_an_edit_at_the_end_leaves_windows_whose_coarse_film_stays(
    coarse_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    """129 frames in two coarse windows: the last keyframe is in the second one alone."""
    places = (0, 64, 128)

    def board(last: str) -> Path:
        stills = [
            {"image": image, "frame": frame}
            for image, frame in zip(("still0.png", "still1.png", last), places, strict=True)
        ]
        duration = {"frames": 129}
        return coarse_board(
            write_board, last.removesuffix(".png"), coarse=4, keyframes=stills, duration=duration
        )

    one, other = (
        render(coarse_pipe, board(f"still{number}.png"), tmp_path / "out", []) for number in (2, 3)
    )
    for name in ("coarse", "segments"):
        shared = [
            mine["key"] == theirs["key"]
            for mine, theirs in zip(one[name], other[name], strict=True)
        ]
        assert shared == sorted(shared, reverse=True)
        assert shared[0]
        assert not shared[-1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"duration": {"frames": 68}, "loop": True, "coarse": 4, "keyframes": []},
            "shots[0].coarse = 4: a loop of 68 frames has no coarse film at this stride; its "
            "frames must be a multiple of 16",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_rendering(
    coarse_pipe: DreaMontagePipeline,
    write_board: WriteBoard,
    tmp_path: Path,
    fields: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ValueError, match="coarse") as error:
        render(coarse_pipe, coarse_board(write_board, **fields), tmp_path / "out", [])
    assert str(error.value) == message
