"""Settings: what each variable replaces, and what a wrong one is told."""

from pathlib import Path

import pytest

from flows.settings import Settings, read_settings
from storage import FolderStore


def test_children_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        home=tmp_path, database_url="postgresql://u:p@h/d", s3_secure=False, max_takes=7
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert read_settings() == settings


def test_prefect_profile_stays_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_PROFILE", "mine")
    assert "PREFECT_PROFILE" not in Settings(home=tmp_path).environment()
    theirs = Settings(home=tmp_path, prefect_api_url="http://prefect.studio:4200/api/")
    assert theirs.prefect() == "http://prefect.studio:4200/api"
    assert theirs.environment()["PREFECT_PROFILE"] == "mine"


def test_store_is_a_folder_until_s3_is_named(tmp_path: Path) -> None:
    store = Settings(home=tmp_path).store()
    assert isinstance(store, FolderStore)
    assert store.root == tmp_path / "store"
    with pytest.raises(ValueError, match="S3_ACCESS_KEY"):
        Settings(home=tmp_path, s3_endpoint="s3.studio:9000").store()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "sqlite:///film.db"),
        ("DATABASE_URL", "nonsense"),
        ("PREFECT_API_URL", "prefect.studio:4200"),
        ("DREAMONTAGE_MAX_TAKES", "0"),
        ("DREAMONTAGE_WORKER", "cold"),
    ],
)
def test_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    field = variable.removeprefix("DREAMONTAGE_")
    with pytest.raises(ValueError, match=f"(?i)settings: .*{field}"):
        read_settings()
