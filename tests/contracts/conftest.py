"""The broker as the tests of the transport use it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from config import Settings
from tests.contracts.harness import Broker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(settings: Settings) -> AsyncIterator[Broker]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_url, acks="all", enable_idempotence=True, max_request_size=8 << 20
    )
    await admin.start()
    await producer.start()
    yield Broker(settings, admin, producer)
    await producer.stop()
    await admin.close()
