"""Starting the run that renders a storyboard, by Prefect's API alone: importing Prefect is slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from flows.studio.services import client
from flows.studio.settings import Settings


def find_deployment(settings: Settings) -> str:
    """The id of render-storyboard's deployment.

    Raises:
        ConnectionError: when Prefect's server does not answer.
        LookupError: when it does not know the deployment.
    """
    with _server(settings) as api:
        found = api.get("/deployments/name/render-storyboard/render-storyboard")
        if found.status_code == httpx.codes.NOT_FOUND:
            raise LookupError(
                f"the Prefect server at {settings.prefect()} has no deployment "
                "render-storyboard: run `prefect deploy --all` against it"
            )
        return str(found.raise_for_status().json()["id"])


def start_storyboard(settings: Settings, storyboard_id: str) -> str:
    """Start a run of render-storyboard; returns its id. Asked again, it is the same run.

    Raises as `find_deployment` does.
    """
    deployment = find_deployment(settings)
    with _server(settings) as api:
        started = api.post(
            f"/deployments/{deployment}/create_flow_run",
            json={
                "name": storyboard_id,
                "parameters": {"storyboard_id": storyboard_id},
                "state": {"type": "SCHEDULED"},
                "idempotency_key": storyboard_id,
            },
        )
        return str(started.raise_for_status().json()["id"])


@contextmanager
def _server(settings: Settings) -> Iterator[httpx.Client]:
    try:
        with client(settings) as api:
            yield api
    except httpx.TransportError as error:
        raise ConnectionError(
            f"the Prefect server at {settings.prefect()} does not answer ({error}): "
            "start the studio with `dreamontage up`"
        ) from None
