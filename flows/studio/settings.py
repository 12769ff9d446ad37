"""Where everything is: the one object that reads the environment.

With nothing set, the whole studio lives under one folder of the user's and `dreamontage up` starts
what it needs there. DATABASE_URL, S3_ENDPOINT and PREFECT_API_URL each put a server of your own in
the place of one of those parts.
"""

import hashlib
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import (
    AliasChoices,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from dreamontage.models import bundled
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.pipeline.acceleration import parse as parse_speed
from storage import FolderStore, S3Store, Store

# A clone's top, or the folder that the packages were installed into.
REPOSITORY = Path(__file__).resolve().parents[2]


# Threads that spin while they wait make torch several times slower on cores that others use too.
# transformers would warn in every log that torchvision, which nothing here needs, is not there.
_OF_EVERY_CHILD = {"OMP_WAIT_POLICY": "PASSIVE", "TRANSFORMERS_VERBOSITY": "error"}


class NotUpError(RuntimeError):
    """A part of the studio is asked for that nobody started and no setting names."""


def _named(variable: str, default: Any = None) -> Any:
    """A field under a variable's usual name, without our prefix."""
    return Field(default, validation_alias=AliasChoices(variable.lower(), variable))


class Settings(BaseSettings):
    """Every setting, from the environment or by keyword. Faults name the variable to mend."""

    model_config = SettingsConfigDict(
        env_prefix="DREAMONTAGE_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
    )

    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("dreamontage"))
    weights: Path = bundled.weights("nano")
    # The super-resolution model, for storyboards with `upscale`.
    sr_weights: Path | None = Field(default_factory=lambda: bundled.weights_or_none("nano-sr"))
    device: str = "cpu"
    # What makes the model faster or smaller, as in `{attention: flash, fp8_storage: true}`.
    speed: str = ""

    database_url: str | None = _named("DATABASE_URL")
    prefect_api_url: str | None = _named("PREFECT_API_URL")
    prefect_api_key: str | None = _named("PREFECT_API_KEY")
    prefect_api_auth_string: str | None = _named("PREFECT_API_AUTH_STRING")
    s3_endpoint: str | None = _named("S3_ENDPOINT")
    s3_bucket: str = _named("S3_BUCKET", "dreamontage")
    s3_access_key: str = _named("S3_ACCESS_KEY", "")
    s3_secret_key: str = _named("S3_SECRET_KEY", "")
    s3_region: str = _named("S3_REGION", "us-east-1")
    s3_secure: bool = _named("S3_SECURE", True)

    # A segment is free again this long after its holder's last heartbeat.
    lease_seconds: float = Field(default=20.0, gt=0)
    heartbeat_seconds: float = Field(default=4.0, gt=0)
    # Denoise steps between two saved states: what a kill can cost at most.
    checkpoint_every: PositiveInt = 4
    max_takes: PositiveInt = 3
    # Prefect's worker that serves the pools `up` makes: `warm` keeps a process with the model
    # loaded, `process` starts a new one for every run.
    worker: Literal["warm", "process"] = "warm"

    @field_validator("home", "weights", "sr_weights")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("speed")
    @classmethod
    def _known_options(cls, text: str) -> str:
        if parse_speed(text).context_parallel > 1:
            raise ValueError(
                "context_parallel is for processes that torchrun starts; a worker is one process"
            )
        return text

    @field_validator("database_url")
    @classmethod
    def _postgres_through_psycopg(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
            raise ValueError(
                "DATABASE_URL has to name a Postgres database, as in "
                f"postgresql://user:secret@host/dreamontage; got scheme {scheme!r}"
            )
        return f"postgresql+psycopg://{rest}"

    @field_validator("prefect_api_url")
    @classmethod
    def _prefect_api(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                "PREFECT_API_URL has to be a Prefect server's API address, as in "
                f"http://host:4200/api; got {url!r}"
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _some_heartbeats_a_lease(self) -> Self:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            raise ValueError(
                f"DREAMONTAGE_HEARTBEAT_SECONDS = {self.heartbeat_seconds:g} must be at most a "
                f"third of DREAMONTAGE_LEASE_SECONDS = {self.lease_seconds:g}, or a late heartbeat "
                "or two would give a segment away that is being rendered"
            )
        return self

    @property
    def speed_options(self) -> SpeedOptions:
        return parse_speed(self.speed)

    @property
    def lease_ttl(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    def store(self) -> Store:
        """The bytes: the S3 bucket if S3_ENDPOINT is set, a folder under home otherwise."""
        if self.s3_endpoint is None:
            return FolderStore(self.home / "store")
        if not (self.s3_access_key and self.s3_secret_key):
            raise ValueError("S3_ENDPOINT is set, so S3_ACCESS_KEY and S3_SECRET_KEY are needed")
        return S3Store(
            endpoint=self.s3_endpoint,
            bucket=self.s3_bucket,
            access_key=self.s3_access_key,
            secret_key=self.s3_secret_key,
            region=self.s3_region,
            secure=self.s3_secure,
        )

    @property
    def store_place(self) -> str:
        """Where `store` is, as an operator would write it; two stores never share one."""
        if self.s3_endpoint is None:
            return f"folder {self.home / 'store'}"
        return f"bucket {self.s3_bucket} at {self.s3_endpoint}"

    @property
    def digest(self) -> str:
        """Equal for equal settings; it holds no secret."""
        variables = json.dumps(self._as_variables(), sort_keys=True)
        return hashlib.sha256(variables.encode()).hexdigest()

    def database(self) -> str:
        """SQLAlchemy's address of our Postgres. Raises NotUpError before the first `up`."""
        return self.database_url or self._of_running_stack("database_url", "DATABASE_URL")

    def prefect(self) -> str:
        """Address of Prefect's API. Raises NotUpError before the first `up`."""
        return self.prefect_api_url or self._of_running_stack("prefect_api_url", "PREFECT_API_URL")

    @property
    def stack_file(self) -> Path:
        """What `up` started, for the commands and workers that come after it."""
        return self.home / "stack.json"

    def _of_running_stack(self, key: str, variable: str) -> str:
        try:
            return str(json.loads(self.stack_file.read_text())[key])
        except (FileNotFoundError, KeyError):
            raise NotUpError(
                f"nothing runs under {self.home} yet: start the studio with `dreamontage up`, "
                f"or set {variable} to a server of your own"
            ) from None

    def environment(self, **extra: str) -> dict[str, str]:
        """Variables for a child process, whose own Settings() will equal these.

        While the Prefect server is ours, nothing of a Prefect profile of the user's gets in.
        """
        ours = self.prefect_api_url is None
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not (ours and name.startswith("PREFECT_"))
        }
        return _OF_EVERY_CHILD | inherited | self._as_variables() | extra

    def _as_variables(self) -> dict[str, str]:
        variables = {}
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            alias = info.validation_alias
            name = (
                str(alias.choices[-1])
                if isinstance(alias, AliasChoices)
                else f"DREAMONTAGE_{field.upper()}"
            )
            if value is not None:
                variables[name] = str(value)
        return variables


def read_settings() -> Settings:
    """The settings of this process. Raises ValueError naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as validation_error:
        faults = "; ".join(
            _error_text(error["loc"], error["msg"]) for error in validation_error.errors()
        )
        raise ValueError(f"settings: {faults}") from None


def _error_text(field: tuple[int | str, ...], message: str) -> str:
    """A fault, under the variable to mend unless it begins with that itself."""
    message = message.removeprefix("Value error, ")
    if not field or message.startswith(variable := _variable(field[0])):
        return message
    return f"{variable}: {message}"


def _variable(field: int | str) -> str:
    """What sets a field in the environment."""
    name = str(field)
    info = Settings.model_fields.get(name)
    prefixed = info is not None and info.validation_alias is None
    return f"DREAMONTAGE_{name.upper()}" if prefixed else name.upper()
