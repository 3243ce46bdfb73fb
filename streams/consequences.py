"""What follows from an event elsewhere: commands that a reader sends, acknowledged before its position moves.

event → the commands that follow, until Kafka has them all → the position moves

An event that is read twice sends them twice, under the same operations, which are carried out once.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

import topics
from domain.access import SYSTEM
from stores.postgres import StoresAway
from streams import identity
from streams.envelope import Name, Unreadable, read_foreign_as, source_of
from streams.groups import Connections
from streams.orders import Order, command_record
from streams.producer import REQUEST_TIMEOUT_S, partition_of
from streams.readers import Follower

ACKNOWLEDGED_S = REQUEST_TIMEOUT_S + 5.0
"""How long Kafka may take to acknowledge, seconds; then they are sent again."""

Said = TypeVar("Said")


class Cause(msgspec.Struct, frozen=True):
    """An event of ours, as much of it as what follows from it needs."""

    id: Name
    source: Name
    type: Name
    subject: UUID
    sequence: str
    time: datetime
    aggregateversion: int
    data: msgspec.Raw
    traceparent: str | None = None
    tracestate: str | None = None
    requestid: str = ""

    def said(self, decoder: "msgspec.json.Decoder[Said]") -> Said:
        """Its data. Raises Unreadable."""
        try:
            return decoder.decode(self.data)
        except msgspec.MsgspecError as error:
            raise Unreadable("wrong_shape", str(error)) from None


_cause = msgspec.json.Decoder(Cause)


def read_cause(record: ConsumerRecord) -> Cause:
    """An event of ours. Raises Unreadable."""
    cause: Cause = read_foreign_as(record, _cause)
    return cause


class Consequences:
    """Sends commands in the name of the system. `by`: the group that sends them."""

    def __init__(self, connections: Connections, by: str) -> None:
        self._broker = connections.broker
        self._key = connections.settings.command_key
        self._prefix = connections.settings.topic_prefix
        self._source = source_of(by)

    def order(self, noun: str, kind: str, aggregate: UUID, data: bytes, *, of: Cause | str) -> Order:
        """The command `kind` to `aggregate`, as it follows from `of`: an event, or what else is its reason for ever."""
        cause = of if isinstance(of, Cause) else None
        operation = identity.consequence(cause.id if cause else str(of), noun, aggregate)
        return Order(
            noun=noun,
            type=kind,
            aggregate_id=aggregate,
            operation=operation,
            actor=SYSTEM,
            data=data,
            fingerprint=operation.hex,
            traceparent=cause.traceparent if cause else None,
            tracestate=cause.tracestate if cause else None,
            request_id=cause.requestid if cause else "",
            source=self._source,
        )

    async def send(self, orders: Sequence[Order]) -> None:
        """Returns once Kafka has acknowledged them all; those of one aggregate stay in order.

        Raises StoresAway while it does not take them: a broker that is away is waited for like any store.
        """
        if not orders:
            return
        producer: Any = None
        sent: list[Any] = []
        try:
            producer = await self._broker.current()
            async with asyncio.timeout(ACKNOWLEDGED_S):
                for order in orders:
                    topic = topics.COMMANDS_OF[order.noun].full_name(self._prefix)
                    key, value, headers = command_record(order, self._key)
                    partition = await partition_of(producer, topic, key)
                    sent.append(await producer.send(topic, value, key, partition, headers=headers))
                await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            for future in sent:
                future.cancel()  # nobody waits for them any more
            await self._broker.renew(producer)  # an idempotent one miscounts what it does not know the end of
            raise StoresAway(f"Kafka takes no commands: {str(error) or type(error).__name__}") from error


class Commanding(Follower):
    """Follows events with commands, `by` its group's short name. It writes nothing itself but its position."""

    by = ""

    def __init__(self, connections: Connections, group: str) -> None:
        super().__init__(connections.database, group)
        self.consequences = Consequences(connections, self.by)
