"""Fixtures shared by test files, and the tiers that tests belong to.

`make check` runs the tests that are neither `server` nor `medium` nor `slow`, `make test` all but
`slow`, `make test-all` all. Which tests need a server follows from their fixtures.
"""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest_plugins = [
    "tests.support.alignment",
    "tests.support.tiny",
    "tests.support.upscale",
    "tests.support.speed",
    "tests.support.training_data",
    "tests.support.curated",
    "tests.support.boards",
    "tests.support.postgres",
    "tests.support.s3",
    "tests.support.farm",
    "tests.support.farm_steps",
    "tests.support.ledgers",
    "tests.support.evaluation",
    "tests.support.storyboard_data",
]

# Fixtures, and whole files, that start a Postgres, an S3 server or the farm's processes.
SERVER_FIXTURES = frozenset({"postgres", "rclone_server", "ministack_server", "farm"})
SERVER_FILES = frozenset({"test_db_embedded", "test_stack", "test_wheel"})

# Files whose tests train or sample models, encode many films, or start commands: seconds each.
MEDIUM_FILES = frozenset(
    {
        "test_checkpoint",
        "test_cli_library",
        "test_compatibility",
        "test_decoder_training",
        "test_distributed_training",
        "test_draft_denoising",
        "test_draft_keys",
        "test_draft_pictures",
        "test_draft_storyboard",
        "test_evaluation_run",
        "test_examples",
        "test_golden_latents",
        "test_loading",
        "test_native",
        "test_preference",
        "test_preference_training",
        "test_readme",
        "test_render_parity",
        "test_scorer_calibration",
        "test_speed_caches",
        "test_speed_exactness",
        "test_speed_options",
        "test_superres_training",
        "test_training",
        "test_training_chains",
        "test_upscale",
        "test_upscale_sizes",
        "test_upscale_tiles",
        "test_upscale_windows",
        "test_upscaled",
    }
)

MEDIUM_PREFIXES = ("test_curat", "test_wan_")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = item.path.stem
        if file in SERVER_FILES or SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
        if file in MEDIUM_FILES or file.startswith(MEDIUM_PREFIXES):
            item.add_marker("medium")
        # With xdist a file's tests run in one process, so that its fixtures are made once.
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(file))
    # The farm's tests take longest, so one process starts with them.
    items.sort(key=lambda item: _group(item) != "farm")


def _group(item: pytest.Item) -> object:
    marker = item.get_closest_marker("xdist_group")
    return marker and marker.args and marker.args[0]
