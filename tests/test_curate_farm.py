"""Curation on the farm: the steps on a real Postgres and store, and the flows in a real studio."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamontage.training.curation.judge import Rule
from dreamontage.training.curation.videos import Curation
from dreamontage.training.datasets.shards import Dataset
from flows.steps import curation as steps
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import REPOSITORY, Settings
from tests.support import wild
from tests.support.wild import h264, pan, shot

OPTIONS = {"size": "128x80"}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    h264(shot(0), folder / "a.mp4")
    h264(pan(1), folder / "b.mp4")
    h264(wild.cut(shot(0), shot(1), 20), folder / "cut.mp4")
    (folder / "text.mp4").write_text("not a video")
    return folder


@pytest.fixture
def curation_farm(database_url: str, tmp_path: Path) -> Iterator[Farm]:
    settings = Settings(
        home=tmp_path / "home", weights=REPOSITORY / "weights" / "nano", database_url=database_url
    )
    with open_farm(settings) as farm:
        yield farm


def run(farm: Farm, folder: Path, options: dict[str, Any] = OPTIONS) -> tuple[str, int, int]:
    """As the flows do it: the index's address, and how many were measured and encoded."""
    place, curation = str(folder), steps.curation_of(farm, options)
    measured = sum(steps.measure(farm, place, name, curation) for name in steps.videos_of(place))
    entries = steps.judged(farm, place, curation)
    plan = steps.plan_clips(farm, place, curation, entries)
    encoded = sum(len(list(steps.encode(farm, place, names, curation))) for names in plan.groups)
    return steps.publish(farm, place, curation, entries, plan).address, measured, encoded


def test_a_folder_becomes_a_data_set_in_the_store(
    curation_farm: Farm, films: Path, tmp_path: Path
) -> None:
    address, measured, encoded = run(curation_farm, films)
    assert (measured, encoded) == (4, 2)
    data = Dataset(steps.fetch_data_set(curation_farm, address, tmp_path / "out"))
    assert [facts.source for facts in data.clips] == ["a.mp4", "b.mp4"]
    assert data.read(1).mean_ZLHW.shape == (48, 13, 10, 16)
    kinds = {stat.address.split("/")[0] for stat in curation_farm.store.list()}
    assert kinds == {"measured", "groups", "shards", "datasets"}, "no parts are left"

    assert run(curation_farm, films) == (address, 1, 0), (
        "what is done is not done again, but for the text"
    )
    verdicts = {
        entry.name: entry.verdict.rule
        for entry in steps.judged(
            curation_farm, str(films), steps.curation_of(curation_farm, OPTIONS)
        )
    }
    assert verdicts["cut.mp4"] is Rule.ONE_SHOT
    assert verdicts["text.mp4"] is Rule.READABLE


def test_a_folder_that_grows_keeps_its_shards(
    curation_farm: Farm, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = run(curation_farm, films)
    h264(pan(2), films / "c.mp4")
    second, measured, encoded = run(curation_farm, films)
    assert (measured, encoded) == (2, 1), "the new one, and the text again"
    before, after = (
        json.loads(curation_farm.store.get(each))["shards"] for each in (first, second)
    )
    assert after[:1] == before
    assert len(after) == 2

    # A shard with a clip that is no longer wanted is written again from its other clips.
    (films / "a.mp4").unlink()

    def never(*arguments: Any) -> None:
        raise AssertionError("encoded already")

    monkeypatch.setattr("dreamontage.training.curation.encode.encode_video", never)
    third, _, repacked = run(curation_farm, films)
    assert repacked == 1
    data = Dataset(steps.fetch_data_set(curation_farm, third, tmp_path / "out"))
    assert sorted(facts.source for facts in data.clips) == ["b.mp4", "c.mp4"]


def test_a_stopped_group_continues_with_the_next_clip(curation_farm: Farm, films: Path) -> None:
    place, curation = str(films), steps.curation_of(curation_farm, OPTIONS)
    entries = steps.judged(curation_farm, place, curation)
    plan = steps.plan_clips(curation_farm, place, curation, entries)
    assert plan.groups == (("a.mp4", "b.mp4"),)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(steps, "videos_of")  # a group is encoded without a look at all the others
        stopped = steps.encode(curation_farm, place, plan.groups[0], curation)
        assert next(stopped) == "a.mp4"
        assert isinstance(stopped, Generator)
        stopped.close()
    (part,) = curation_farm.store.list("parts")
    with pytest.raises(RuntimeError, match=r"not encoded yet: a\.mp4, b\.mp4"):
        steps.publish(curation_farm, place, curation, entries, plan)
    encoded: list[str] = []

    def counted(*arguments: Any) -> Any:
        encoded.append(arguments[1].name)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        from dreamontage.training.curation import encode

        real = encode.encode_video
        patch.setattr(encode, "encode_video", counted)
        assert list(steps.encode(curation_farm, place, plan.groups[0], curation)) == [
            "a.mp4",
            "b.mp4",
        ]
    assert encoded == ["b.mp4"]
    assert not list(curation_farm.store.list("parts"))
    assert part.address
    assert steps.publish(curation_farm, place, curation, entries, plan).clips == 2


def test_a_group_of_which_one_is_gone_is_not_encoded(curation_farm: Farm, films: Path) -> None:
    place, curation = str(films), steps.curation_of(curation_farm, OPTIONS)
    plan = steps.plan_clips(
        curation_farm, place, curation, steps.judged(curation_farm, place, curation)
    )
    (films / "a.mp4").unlink()
    with pytest.raises(RuntimeError, match=r"has changed since it was judged: a\.mp4"):
        list(steps.encode(curation_farm, place, plan.groups[0], curation))


def test_a_shard_that_is_lost_is_made_again(
    curation_farm: Farm, films: Path, tmp_path: Path
) -> None:
    address, _, _ = run(curation_farm, films)
    (shard,) = curation_farm.store.list("shards")
    curation_farm.store.delete(shard.address)
    again, measured, encoded = run(curation_farm, films)
    assert (again, measured, encoded) == (address, 1, 2), "the same bytes, so the same index"
    assert len(Dataset(steps.fetch_data_set(curation_farm, address, tmp_path / "out"))) == 2


def test_a_video_is_not_blamed_for_good_for_what_may_pass(
    curation_farm: Farm, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def fails(*_: Any, **__: Any) -> Any:
            raise OSError("the disk is not there just now")

        patch.setattr("dreamontage.training.curation.measure.file_digest", fails)
        _, measured, encoded = run(curation_farm, films)
        assert (measured, encoded) == (4, 0)
    _, measured, encoded = run(curation_farm, films)
    assert (measured, encoded) == (4, 2)


def test_a_video_that_kills_is_given_up(curation_farm: Farm, films: Path) -> None:
    curation: Curation = steps.curation_of(curation_farm, OPTIONS)
    steps.record_crash(curation_farm, str(films), "a.mp4", curation)
    assert not steps.measure(curation_farm, str(films), "a.mp4", curation), (
        "nobody looks at it again"
    )
    (entry, *_) = steps.judged(curation_farm, str(films), curation)
    assert entry.verdict.reason == "processes died while looking at it"


def test_unknown_options_are_reported(curation_farm: Farm) -> None:
    with pytest.raises(ValueError, match="options: got an unexpected keyword argument 'sise'"):
        steps.curation_of(curation_farm, {"sise": "128x80"})
    with pytest.raises(ValueError, match="--size = 'x' must read WIDTHxHEIGHT"):
        steps.curation_of(curation_farm, {"size": "x"})
