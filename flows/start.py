"""Starting the run that renders a storyboard, by Prefect's API alone: importing Prefect is slow."""

from __future__ import annotations

import httpx

from flows.services import client
from flows.settings import Settings


def start_storyboard(settings: Settings, storyboard_id: str) -> str:
    """Start a run of render-storyboard; returns its id.

    Raises:
        ConnectionError: when Prefect's server does not answer.
        LookupError: when it does not know the deployment.
    """
    with client(settings) as api:
        try:
            found = api.get("/deployments/name/render-storyboard/render-storyboard")
            if found.status_code == httpx.codes.NOT_FOUND:
                raise LookupError(
                    f"the Prefect server at {settings.prefect()} has no deployment "
                    "render-storyboard: run `prefect deploy --all` against it"
                )
            started = api.post(
                f"/deployments/{found.raise_for_status().json()['id']}/create_flow_run",
                json={
                    "name": storyboard_id,
                    "parameters": {"storyboard_id": storyboard_id},
                    "state": {"type": "SCHEDULED"},
                },
            )
        except httpx.TransportError as error:
            raise ConnectionError(
                f"the Prefect server at {settings.prefect()} does not answer ({error}): "
                "start the studio with `dreamontage up`"
            ) from None
        return str(started.raise_for_status().json()["id"])
