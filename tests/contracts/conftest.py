"""The broker as the tests of the transport use it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from config import Settings
from tests.contracts.harness import Broker, open_broker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(settings: Settings) -> AsyncIterator[Broker]:
    async with open_broker(settings) as broker:
        yield broker
