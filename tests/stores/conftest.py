"""A migrated database for each module of tests, and the store's rooms over it."""

from collections.abc import AsyncIterator

import pytest_asyncio

import stores
from config import Settings
from stores import Stores, migrations
from stores.postgres import Database, of
from stores.progress import ProgressStore


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(settings: Settings) -> AsyncIterator[Database]:
    await migrations.apply(settings.postgres_url)
    database = of(settings, "tests")
    yield database
    await database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def progress(database: Database) -> ProgressStore:
    return ProgressStore(database)


@pytest_asyncio.fixture(loop_scope="session")
async def opened(own_settings: Settings) -> AsyncIterator[Stores]:
    """All of the stores, over a database of the test's own."""
    await migrations.apply(own_settings.postgres_url)
    async with stores.open(own_settings) as found:
        yield found
