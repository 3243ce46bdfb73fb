"""The Kafka producers of fronts and workers: idempotent, acknowledged by all replicas."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from config import Settings
from streams.protocol import topic_info

log = logging.getLogger("yeoul.streams.producer")

REQUEST_TIMEOUT_S = 30
PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 1.0


def new(settings: Settings, name: str) -> AIOKafkaProducer:
    """A producer that is not started yet."""
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka_url.split(","),
        client_id=f"yeoul-{name}",
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=1 << 20,
        max_request_size=8 << 20,
        request_timeout_ms=REQUEST_TIMEOUT_S * 1000,
        retry_backoff_ms=50,
        metadata_max_age_ms=60_000,
    )


class Broker:
    """A producer, and whether the broker can be reached now. Starts itself when the broker appears."""

    def __init__(
        self, settings: Settings, name: str, topics: list[str], went: Callable[[str], None] = lambda reason: None
    ) -> None:
        """`went` is called with the reason when the broker is found to be away."""
        self._settings = settings
        self._name = name
        self._topics = topics
        self._went = went
        self._task: asyncio.Task[None] | None = None
        self.producer: AIOKafkaProducer | None = None
        self.away: str | None = "the broker was not reached yet"
        self._probing = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._told = False

    async def start(self) -> None:
        """Begin to look for the broker; returns after the first try."""
        await self._probe()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Flush for 5 s at most, and close."""
        if self._task is not None:
            self._task.cancel()
        if self.producer is not None:
            try:
                await asyncio.wait_for(self.producer.stop(), 5.0)
            except (KafkaError, TimeoutError) as error:
                log.warning("the producer did not stop in order: %s", str(error) or type(error).__name__)

    async def renew(self, failed: AIOKafkaProducer | None) -> None:
        """Throw a producer away after a failure that it may not get over; whoever comes second finds it done."""
        async with self._probing:  # nobody may ask the old one while it is closed
            if failed is None or self.producer is not failed:
                return
            old: Any = self.producer
            self.producer = None
            try:
                await asyncio.wait_for(old.stop(), 1.0)
            except (KafkaError, TimeoutError):
                log.info("an old producer was left behind")
            await self._look()

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; known once the broker was reached."""
        return self._partitions[topic]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            await self._probe()

    async def _probe(self) -> None:
        async with self._probing:
            await self._look()

    async def _look(self) -> None:
        try:
            if self.producer is None:
                producer = new(self._settings, self._name)
                try:
                    await asyncio.wait_for(producer.start(), 5.0)
                    for topic in self._topics:
                        found = await asyncio.wait_for(producer.partitions_for(topic), 5.0)
                        self._partitions[topic] = len(found)
                except BaseException:
                    await producer.stop()
                    raise
                self.producer = producer
            else:
                await asyncio.wait_for(topic_info(self.producer.client, self._topics[:1]), PROBE_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            if not self._told:
                log.warning("the broker is away: %s", str(error) or type(error).__name__)
            self._told = True
            self.away = str(error) or type(error).__name__
            self._went(self.away)
        else:
            if self.away is not None:
                log.info("the broker is there")
            self.away = None
            self._told = False


def record_batches(producer: AIOKafkaProducer, records: list[tuple[bytes, bytes]], headers: Any) -> list[Any]:
    """Records of one partition, in order, in as few record batches as their size allows."""
    batches = []
    builder = producer.create_batch()
    for key, value in records:
        if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            builder.close()
            batches.append(builder)
            builder = producer.create_batch()
            if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                raise ValueError(f"a record of {len(value)} bytes fits in no record batch")
    if builder.record_count():
        builder.close()
        batches.append(builder)
    return batches
