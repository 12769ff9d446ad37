"""Fixtures for every test; those shared between files live in tests/fixtures/."""

import os

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest_plugins = [
    "tests.fixtures.alignment",
    "tests.fixtures.tiny",
    "tests.fixtures.boards",
    "tests.fixtures.postgres",
    "tests.fixtures.s3",
    "tests.fixtures.farm",
    "tests.fixtures.evaluation",
]
