"""What an event has for consequences elsewhere: commands that a reader sends, acknowledged before its position moves.

An event that is read twice sends them twice, under the same operations, which are carried out once.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

import topics
from config import Settings
from domain.access import SYSTEM
from stores.postgres import StoresAway
from streams import identity
from streams.envelope import Command, command_record, source_of
from streams.producer import Broker, led

FINGERPRINT = "consequence"
ACKNOWLEDGED_S = 35.0
"""How long Kafka may take to acknowledge, seconds; then they are sent again."""


class Consequences:
    """Commands of the system. `by`: the group that sends them."""

    def __init__(self, settings: Settings, broker: Broker, by: str) -> None:
        self._settings = settings
        self._broker = broker
        self._source = source_of(by)

    async def send(self, noun: str, kind: str, data: bytes, event: str, aggregates: Sequence[UUID]) -> None:
        """Send the command `kind` to each of `aggregates`, as consequences of `event` (its id).

        Returns once all are acknowledged. Raises StoresAway while Kafka does not take them: whoever reads waits then.
        """
        if not aggregates:
            return
        topic = topics.COMMANDS_OF[noun].full_name(self._settings.topic_prefix)
        producer: Any = None
        try:
            producer = await self._broker.current()
            async with asyncio.timeout(ACKNOWLEDGED_S):
                count = len(await producer.partitions_for(topic))
                for partition in range(count):
                    await led(producer, topic, partition)
                sent = []
                for aggregate in aggregates:
                    key, value, headers = command_record(
                        noun, self._command(kind, data, event, aggregate), self._settings.command_key
                    )
                    partition = (murmur2(key) & 0x7FFFFFFF) % count
                    sent.append(await producer.send(topic, value, key, partition=partition, headers=headers))
                await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._broker.renew(producer)  # an idempotent one miscounts what it does not know the end of
            raise StoresAway(f"Kafka takes no commands: {str(error) or type(error).__name__}") from error

    def _command(self, kind: str, data: bytes, event: str, aggregate: UUID) -> Command:
        operation = identity.consequence(event, aggregate)
        return Command(
            id=str(operation),
            source=self._source,
            type=kind,
            subject=aggregate,
            time=datetime.now(UTC),
            operation=operation,
            data=msgspec.Raw(data),
            actor=SYSTEM.id,
            actorrole=SYSTEM.role.value,
            fingerprint=FINGERPRINT,
        )
