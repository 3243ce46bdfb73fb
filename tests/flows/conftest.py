"""An installation for each test, or one that the tests of a module share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from tests.conftest import fresh_settings
from tests.flows.harness import FULL_SIZE, WRITES, System, serving, system


@pytest.fixture(scope="session")
def full() -> bool:
    """True when the sizes are the ones the guarantees are stated for."""
    return FULL_SIZE


@pytest_asyncio.fixture(loop_scope="session")
async def installation(own_settings: Settings, tmp_path: Path) -> AsyncIterator[System]:
    """Tables and topics of its own; the test starts the processes."""
    async with system(own_settings, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A worker and a front that run, for the tests of a module that leave them, their servers and settings alone."""
    async with serving(settings, tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def writing(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """As `served`, with the groups of WRITES only."""
    async with (
        fresh_settings(stack, "writing") as settings,
        serving(settings, tmp_path_factory.mktemp("writing"), *WRITES) as running,
    ):
        yield running
