"""A migrated database for each module of tests, and the store's rooms over it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

import stores
from config import Settings
from stores import Stores, migrations
from stores.postgres import Database, of
from stores.progress import ProgressStore


@pytest.fixture(scope="module", autouse=True)
def _patient_with_redis() -> Iterator[None]:
    """A Redis that answers late is none that is away: a test may stand still for longer than a caller would wait.

    One that is stopped refuses at once. A test of one that is frozen asks for the product's own patience.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stores.redis.TIMEOUT_S", 10.0)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(settings: Settings) -> AsyncIterator[Database]:
    await migrations.apply(settings.postgres_url)
    # What some tests write in one statement is large, and a machine may be slow.
    database = of(settings, "tests", patience_s=60.0)
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
