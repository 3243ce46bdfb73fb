"""A reader of events: what its handler writes, the progress and the dead letters are one transaction."""

import abc
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from stores.dead_letters import Parked, park
from stores.postgres import Database
from stores.progress import Move, hold, move
from stores.replays import mark_replayed
from streams.batches import Span
from streams.progress import Owned
from streams.work import Part, Work


class Reader(abc.ABC):
    """A handler of events: `handle` runs in a transaction that moves the progress first and parks dead letters last."""

    name = ""

    def __init__(self, database: Database, group: str) -> None:
        self._database = database
        self._group = group

    async def prepare(self) -> None:  # noqa: B027 - most readers need nothing
        """Called before positions are looked up: at each assignment, and after a mismatch. Raises StoresAway."""

    @abc.abstractmethod
    def decode(self, record: ConsumerRecord) -> Any:
        """See Handler.decode."""

    def decode_all(self, records: Sequence[ConsumerRecord]) -> list[Any] | None:
        """See Handler.decode_all: by default each is looked at alone."""
        return None

    @abc.abstractmethod
    async def handle(self, connection: Any, parts: Sequence[Part]) -> Any:
        """Write what the messages mean, in the transaction of `connection`."""

    async def commit(self, work: Work, moves: list[Move]) -> Any:
        """See Handler.commit."""
        async with self._database.connection() as connection, connection.transaction():
            return await self.write(connection, work, moves)

    async def write(self, connection: Any, work: Work, moves: list[Move]) -> Any:
        """As `commit`, in the transaction of `connection`."""
        await move(connection, self._group, moves)
        result = await self.handle(connection, work.parts)
        await park(connection, work.letters)
        return result

    async def after(self, result: Any) -> None:  # noqa: B027 - most readers have nothing that follows
        """See Handler.after."""

    async def replay(self, letter: Parked, owned: Owned, message: Any) -> None:
        """Handle a dead letter again: no repeat check, and marked as replayed in the same transaction.

        The row of its partition is held, so that it is never handled beside a batch, nor beside a swap of tables.
        """
        key = TopicPartition(letter.topic, letter.partition)
        record = record_of(letter)
        async with self._database.connection() as connection, connection.transaction():
            await hold(connection, self._group, owned.topic_id, key.partition)
            if await mark_replayed(connection, letter.id):
                span = Span(letter.offset, letter.offset + 1)
                await self.handle(connection, [Part(key, owned, span, [record], [message])])


class Follower(Reader):
    """What follows from events is done elsewhere, before the transaction begins; that only moves the position."""

    @abc.abstractmethod
    async def follow(self, messages: Sequence[Any]) -> None:
        """Do what follows from these, in order. Raises StoresAway while it can't be done."""

    async def commit(self, work: Work, moves: list[Move]) -> Any:
        """See Handler.commit."""
        await self.follow([message for part in work.parts for message in part.messages])
        return await super().commit(work, moves)

    async def replay(self, letter: Parked, owned: Owned, message: Any) -> None:
        """See Reader.replay."""
        await self.follow([message])
        await super().replay(letter, owned, message)

    async def handle(self, connection: Any, parts: Sequence[Part]) -> None:
        """See Reader.handle: everything was done."""


def record_of(letter: Parked) -> ConsumerRecord:
    """The record as it came."""
    return ConsumerRecord(
        topic=letter.topic, partition=letter.partition, offset=letter.offset, timestamp=letter.produced_at or 0,
        timestamp_type=0, key=letter.key, value=letter.value, checksum=None, serialized_key_size=len(letter.key or b""),
        serialized_value_size=len(letter.value or b""), headers=letter.headers,
    )  # fmt: skip
