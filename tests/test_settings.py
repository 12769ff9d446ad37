"""Settings: what each variable replaces, and what a wrong one is told."""

from pathlib import Path

import pytest

from dreamontage.models import bundled
from flows.studio.settings import Settings, read_settings
from storage import FolderStore


def test_children_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        home=tmp_path,
        database_url="postgresql://u:p@h/d",
        s3_secure=False,
        max_takes=7,
        sr_weights=tmp_path / "sr",
        speed="{step_cache: {first_block: {threshold: 0.1}}}",
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert read_settings() == settings


def test_the_super_resolution_model_is_the_shipped_one_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "_PACKAGE", tmp_path / "dreamontage")
    assert Settings(home=tmp_path).sr_weights is None
    folder = tmp_path / "weights" / "nano-sr"
    folder.mkdir(parents=True)
    assert Settings(home=tmp_path).sr_weights == folder
    monkeypatch.setenv("DREAMONTAGE_SR_WEIGHTS", "own")
    assert Settings(home=tmp_path).sr_weights == Path("own").absolute()


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
        ("DREAMONTAGE_SPEED", "{attention: quick}"),
        ("DREAMONTAGE_SPEED", "context_parallel: 2"),
        ("DREAMONTAGE_HEARTBEAT_SECONDS", "7"),
        ("DREAMONTAGE_LEASE_SECONDS", "11"),
    ],
)
def test_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"settings: .*{variable}"):
        read_settings()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`DREAMONTAGE_HOME= dreamontage up` would else make the working directory the studio's."""
    unset = read_settings()
    for variable in ("DREAMONTAGE_HOME", "DATABASE_URL", "S3_ENDPOINT", "DREAMONTAGE_WORKER"):
        monkeypatch.setenv(variable, "")
    assert read_settings() == unset


def test_a_lease_is_some_heartbeats_long(tmp_path: Path) -> None:
    Settings(home=tmp_path, lease_seconds=12, heartbeat_seconds=4)
    with pytest.raises(
        ValueError, match=r"HEARTBEAT_SECONDS = 5 .* DREAMONTAGE_LEASE_SECONDS = 12"
    ):
        Settings(home=tmp_path, lease_seconds=12, heartbeat_seconds=5)


def test_digest_is_of_what_children_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, lease_seconds=30, s3_secret_key="a-good-secret")
    assert settings.digest != Settings(home=tmp_path, lease_seconds=30).digest
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert read_settings().digest == settings.digest
