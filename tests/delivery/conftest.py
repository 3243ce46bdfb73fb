"""Migrated stores, a broker, and scenes: topics with a reader of their own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import pytest
import pytest_asyncio

from config import Settings
from stores import migrations
from streams.admin import ensure_topics
from streams.groups import Connections
from tests.contracts.harness import Broker, open_broker
from tests.delivery.desk import Desk
from tests.delivery.harness import Scene
from topics import Repeats

MakeScene = Callable[..., Awaitable[Scene]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(settings: Settings) -> AsyncIterator[Broker]:
    async with open_broker(settings) as broker:
        yield broker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def connections(settings: Settings) -> AsyncIterator[Connections]:
    await migrations.apply(settings.postgres_url)
    connections = Connections(settings, "tests")
    await connections.database.execute("CREATE TABLE notes (consumer_group text, id text, partition int, place bigint)")
    yield connections
    await connections.close()


@pytest.fixture
def scene(settings: Settings, connections: Connections, broker: Broker) -> MakeScene:
    """Makes a topic and a reader of it, which is not started."""

    async def make(
        *,
        repeats: Repeats = Repeats.RECENT,
        partitions: int = 1,
        start: Literal["beginning", "end"] = "beginning",
    ) -> Scene:
        made = Scene(settings, connections, broker, repeats, partitions, start)
        await broker.make(made.name, partitions)
        return made

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def desk(own_settings: Settings, broker: Broker) -> AsyncIterator[Desk]:
    await migrations.apply(own_settings.postgres_url)
    await ensure_topics(own_settings)
    connections = Connections(own_settings, "tests")
    await connections.broker.start()
    desk = Desk(own_settings, connections, broker)
    desk.running.start()
    yield desk
    await desk.running.stop()
    await connections.close()
