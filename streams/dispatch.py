"""How a front produces: whatever was asked for while a request was under way goes together with the next one.

One produce request at a time, with all its partitions: alone, a command leaves at once; under load, the front's share
of the group commit. What waits here has not entered the producer, so when the broker is away it can be given back for
sure.

A producer that met an error can't go on: the broker counts what it sends to a partition, and the count is wrong from
then on. So another one takes its place, and gets what was under way once more, each record alone, so that one which
the broker refuses takes no other with it. That is harmless: a worker knows a command that it has handled.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.producer import Broker, partition_for

log = logging.getLogger("yeoul.streams.dispatch")

Settled = Callable[[Exception | None, bool], None]
"""Called once for each record: with None once acknowledged, else the error, and whether it may have arrived."""


QUIET_TURNS = 20
GATHER_MOST_S = 0.002
"""After a request of several commands the next one waits until the loop has turned so often without a new command, the
second at most: callers who are answered together ask again together. Turns and not time, since the timers of uvloop
know whole milliseconds only. A single caller waits for nobody."""

KEPT_S = 12 * 3600.0
"""How long a command that may have arrived is kept for the broker's return. Well below the time for which workers know
an operation again: a later one would be carried out a second time."""


class Record:
    """A record on its way out."""

    __slots__ = ("_leaving", "_settled", "arrived", "failed", "headers", "is_settled", "key", "left", "since", "value")

    def __init__(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]], settled: Settled) -> None:
        self.key = key
        self.value = value
        self.headers = headers
        self.failed = False
        self.arrived = False
        """It has entered a producer and was not acknowledged: it may have arrived."""
        self.left = False
        """It is in a producer, or was in one: it can't be taken back."""
        self.is_settled = False
        self._settled = settled
        self._leaving: asyncio.Future[None] | None = None
        self.since = monotonic()

    async def leaves(self, within_s: float) -> bool:
        """True once it has left; False when it was given back, or has not left in time: then it never will."""
        if not self.left and not self.is_settled and within_s > 0:
            self._leaving = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._leaving], timeout=within_s)
        if self.left:
            self.arrived = True  # promised: if the producer has to give it up, another one gets it
        else:
            self.settle(TimeoutError("Kafka takes nothing at the moment"), False)
        return self.left

    def leave(self) -> None:
        """It enters a producer now."""
        self.left = True
        self._wake()

    def again(self, error: Exception, entered: bool) -> bool:
        """True if another producer may try; after the second failure the sender is told."""
        self.arrived = self.left = self.arrived or entered
        if self.failed:
            self.settle(error, self.arrived)
            return False
        self.failed = True
        return True

    def settle(self, error: Exception | None, arrived: bool) -> None:
        """Tell the sender what became of it; the first time counts."""
        if self.is_settled:
            return
        self.is_settled = True
        self._wake()
        try:
            self._settled(error, arrived)
        except Exception:
            log.exception("a sender did not take what became of its command")
        self.value, self.headers = b"", ()  # it may stand in the queue for a while

    def _wake(self) -> None:
        if self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(None)


class Dispatch:
    """One for each front process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: dict[tuple[str, int], list[Record]] = {}
        self._task: asyncio.Task[None] | None = None
        self._alone = True  # was the command of the last request
        self._count = 0  # of the records that were ever handed in

    def send(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]], settled: Settled
    ) -> Record:
        """Send a record, in order with the others of its partition."""
        partition = partition_for(key, self._broker.partitions(topic))
        record = Record(key, value, headers, settled)
        self._count += 1
        self._waiting.setdefault((topic, partition), []).append(record)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return record

    def give_back(self, error: Exception, *, everything: bool = False) -> None:
        """The broker is away: what has not left is answered with the error.

        `everything`: what may have arrived, too.
        """
        waiting, self._waiting = self._waiting, {}
        for where, records in waiting.items():
            kept = [] if everything else [record for record in records if record.arrived]
            if kept:
                self._waiting[where] = kept
            for record in records:
                if everything or not record.arrived:
                    record.settle(error, record.arrived)

    async def ended(self, within_s: float) -> None:
        """Wait until it is known what became of every record, once the broker has stopped; `within_s` bounds it."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=within_s)

    async def _run(self) -> None:
        waiting: dict[tuple[str, int], list[Record]] = {}
        try:
            while self._waiting:
                if not self._alone:
                    await self._until_quiet()
                waiting, self._waiting = self._waiting, {}
                self._alone = sum(map(len, waiting.values())) == 1
                producer = self._broker.producer
                again = await asyncio.gather(
                    *(self._partition(producer, *where, records) for where, records in waiting.items())
                )
                if any(records is not None for records in again):
                    await self._broker.renew(producer)
                for where, records in zip(waiting, again, strict=True):
                    if records:
                        self._waiting[where] = records + self._waiting.get(where, [])
                if self._broker.producer is None and self._waiting:
                    self.give_back(KafkaError(self._broker.away or "no producer"))
                    await self._broker.back()
                    self._begin_anew()
        except Exception as error:
            log.exception("sending failed; the next command begins it anew")
            self.give_back(error, everything=True)
        finally:
            # Nobody is left without word: this does nothing where it is known what became of a record.
            for record in (record for records in waiting.values() for record in records):
                record.settle(KafkaError("sending ended"), record.left)
            self._task = None

    def _begin_anew(self) -> None:
        """The broker is back, for what was kept for it: with as many tries as a new one has."""
        for record in (record for records in self._waiting.values() for record in records):
            record.failed = False
            if monotonic() - record.since > KEPT_S:
                record.settle(TimeoutError("Kafka was away for too long"), record.arrived)

    async def _until_quiet(self) -> None:
        latest = monotonic() + GATHER_MOST_S
        seen, quiet = self._count, 0
        while quiet < QUIET_TURNS and monotonic() < latest:
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._count == seen else 0
            seen = self._count

    async def _partition(
        self, producer: AIOKafkaProducer | None, topic: str, partition: int, records: list[Record]
    ) -> list[Record] | None:
        """Send them. When the producer can't go on: what another one has to send, else None."""
        left = records
        while left := [record for record in left if not record.is_settled]:
            taken = left
            entered = False
            try:
                if producer is None:
                    raise KafkaError(self._broker.away or "no producer")
                batch, taken = _batch(producer, left)
                for record in taken:
                    record.leave()
                acknowledged: Any = await producer.send_batch(batch, topic, partition=partition)
                entered = True
                await acknowledged
            except Exception as error:
                known = isinstance(error, KafkaError | OSError | TimeoutError)
                if not known:
                    log.exception("commands for %s/%d could not be sent", topic, partition)
                left = left[len(taken) :]
                if producer is not None and (known or entered):
                    log.warning("%s/%d: another producer goes on after %r", topic, partition, error)
                    return [record for record in taken if record.again(error, entered)] + left
                for record in taken:
                    record.left = record.arrived
                    record.settle(error, record.arrived)
            else:
                for record in taken:
                    record.settle(None, True)
                left = left[len(taken) :]
        return None


def _batch(producer: AIOKafkaProducer, records: list[Record]) -> tuple[Any, list[Record]]:
    """A record batch of the first of these, as many as fit, and which they are."""
    batch = producer.create_batch()
    taken = 0
    for record in records:
        if taken and records[0].failed:
            break  # each alone
        if batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
            break
        taken += 1
    if not taken:
        raise ValueError(f"a command of {len(records[0].value)} bytes fits in no record batch")
    batch.close()
    return batch, records[:taken]
