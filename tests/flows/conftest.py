"""An installation for each test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from config import Settings
from tests.flows.harness import System, system


@pytest.fixture(scope="session")
def full() -> bool:
    """True when the sizes are the ones the guarantees are stated for."""
    return os.environ.get("YEOUL_TEST_FULL") == "1"


@pytest_asyncio.fixture(loop_scope="session")
async def installation(own_settings: Settings, tmp_path: Path) -> AsyncIterator[System]:
    """Tables and topics of its own; the test starts the processes."""
    async with system(own_settings, tmp_path) as running:
        yield running
