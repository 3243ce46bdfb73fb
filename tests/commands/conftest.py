"""The front's command path over real servers: what a worker would say of an operation is written by the test."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

import stores
from config import Settings
from domain.access import Actor, Role
from stores import Stores, migrations
from streams import identity, producer, publish
from streams.admin import ensure_topics
from streams.publish import Commands, Order
from topics import COMMANDS_RESOURCES

ACTOR = Actor(UUID(int=0xA), Role.USER)


class Path:
    """An open command path, the stores behind it, and orders to send."""

    def __init__(self, settings: Settings, opened: Stores, commands: Commands) -> None:
        self.settings = settings
        self.stores = opened
        self.commands = commands

    @staticmethod
    def order(*, keyed: bool = False, aggregate_id: UUID | None = None, data: bytes = b'{"kind":"note"}') -> Order:
        return Order(
            noun="resources", type="create_resource", aggregate_id=aggregate_id or uuid4(),
            operation=identity.new_operation(), actor=ACTOR, data=data, fingerprint="print", keyed=keyed,
        )  # fmt: skip

    async def done(self, order: Order, outcome: str, answer: bytes, version: int = 1) -> None:
        """The row that a worker writes when it has carried the order out."""
        await self.stores.database.execute(
            """INSERT INTO operations (operation, noun, aggregate_id, actor, fingerprint, outcome, version, answer)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
            order.operation, order.noun, order.aggregate_id, order.actor.id, order.fingerprint, outcome, version,
            answer,
        )  # fmt: skip


class Clock:
    """How long something took, seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def took(self) -> float:
        return time.monotonic() - self._began


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installation(settings: Settings) -> Settings:
    await migrations.apply(settings.postgres_url)
    await ensure_topics(settings)
    return settings


@pytest_asyncio.fixture(loop_scope="session")
async def path(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    # This process and the servers share two cores with other tests: who stands still for a second is not away.
    monkeypatch.setattr(stores.redis, "TIMEOUT_S", 5.0)
    monkeypatch.setattr(producer, "PROBE_TIMEOUT_S", 5.0)
    async with stores.open(installation) as opened, Commands.open(installation, opened) as commands:
        yield Path(installation, opened, commands)


async def records(settings: Settings) -> int:
    """How many records the topic of commands has."""
    topic = COMMANDS_RESOURCES.full_name(settings.topic_prefix)
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka_url) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(COMMANDS_RESOURCES.partitions)])
    return int(sum(ends.values()))


@pytest.fixture
def soon_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyed operation counts as running for no time, so that a retry is not told to wait."""
    monkeypatch.setattr(publish, "RUNNING_S", 0.0)
