"""Signed commands straight to Kafka, as a front would send them, but as fast as one process can: for worker.memory."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

import topics
from config import Settings
from domain.access import Role
from security.signatures import sign
from streams import producer
from streams.envelope import COMMAND_SOURCE, CONTENT_TYPE, SIGNATURE, Command, write
from streams.identity import aggregate_id, new_operation

NOUN = "resources"
AT_ONCE = 1000
POLL_S = 0.2


class Feed:
    """Sends creates, and knows how many of them have become events."""

    def __init__(
        self, settings: Settings, kafka: AIOKafkaProducer, reader: AIOKafkaConsumer, bodies: list[str]
    ) -> None:
        self.key = settings.command_key
        self.prefix = settings.topic_prefix
        self.kafka = kafka
        self.reader = reader
        self.actor = uuid4()
        self.channel = f"{settings.topic_prefix}:answers:{uuid4()}"
        self.bodies = itertools.cycle(body.encode() for body in bodies)

    def record(self, operation: UUID) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
        """Key, value and headers of one create."""
        subject = aggregate_id(operation)
        key = str(subject).encode()
        command = Command(
            id=str(operation),
            source=COMMAND_SOURCE,
            type="create_resource",
            subject=subject,
            time=datetime.now(UTC),
            operation=operation,
            data=msgspec.Raw(next(self.bodies)),
            actor=self.actor,
            actorrole=Role.USER.value,
            fingerprint=operation.hex,
            replyto=self.channel,
        )
        value = write(command)
        signature = sign(self.key, NOUN.encode(), key, value).encode()
        return key, value, [("content-type", CONTENT_TYPE.encode()), (SIGNATURE, signature)]

    async def send(self, number: int) -> None:
        """Send `number` creates; returns when the broker has them all. Raises `KafkaError`."""
        topic = topics.COMMANDS_OF[NOUN].full_name(self.prefix)
        for start in range(0, number, AT_ONCE):
            flying = []
            for _ in range(min(AT_ONCE, number - start)):
                key, value, headers = self.record(new_operation())
                flying.append(await self.kafka.send(topic, value, key, headers=headers))
            await asyncio.gather(*flying)

    async def events(self) -> int:
        """Events on the noun's topic since it was made."""
        topic = topics.EVENTS_OF[NOUN]
        partitions = [TopicPartition(topic.full_name(self.prefix), number) for number in range(topic.partitions)]
        ends = await self.reader.end_offsets(partitions)
        return sum(ends.values())

    async def until_events(self, number: int, quiet_s: float) -> None:
        """Wait until there are `number` events. Raises `TimeoutError` when none comes for `quiet_s` seconds."""
        loop = asyncio.get_running_loop()
        seen, since = -1, loop.time()
        while (found := await self.events()) < number:
            if found != seen:
                seen, since = found, loop.time()
            elif loop.time() - since > quiet_s:
                raise TimeoutError(f"there are {found:,} events, and no more come")
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def feeding(settings: Settings, bodies: list[str]) -> AsyncIterator[Feed]:
    """A feed with its connections open."""
    kafka = producer.new(settings, "bench")
    reader = AIOKafkaConsumer(bootstrap_servers=settings.kafka_url)
    await kafka.start()
    try:
        await reader.start()
        try:
            yield Feed(settings, kafka, reader, bodies)
        finally:
            await reader.stop()
    finally:
        await kafka.stop()
