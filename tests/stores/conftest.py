"""A migrated database for each module of tests, and the store's rooms over it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from config import Settings
from stores import migrations
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
