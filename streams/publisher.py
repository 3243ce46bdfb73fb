"""Publishing what was committed: contiguous, in order, retried without limit, while the next batch is decided.

Events of a batch that began at b are published only once everything of that partition below b is acknowledged. What is
not yet published stands in the journal: after a failure, at assignment and after every fence mismatch the owner
publishes from there, with the same ids and sequences, so readers drop what they have seen. No outbox is polled.

A tenure lasts from where a partition was taken over to where it is let go or taken over anew. What was decided in one
is never queued in another: a gap may lie below it, which only the journal can fill.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from uuid import UUID

import msgspec
from aiokafka.errors import KafkaError

from stores import StoresAway
from stores.aggregates import Entry, Journal
from stores.progress import ProgressStore, Standing
from streams.envelope import STRUCTURED_HEADERS
from streams.producer import Broker, record_batches

log = logging.getLogger("yeoul.streams.publisher")

MOST_WAITING = 20_000
"""Events that may wait to be published before the handler waits too."""
GATHER_S = 0.1
"""How long events gather under load, seconds. Nobody's answer waits for them, and each request costs the worker and the
broker as much as five commands do, and then their readers the same."""
LAZY_S = 0.2
"""How long a published offset may wait for a batch whose commit takes it along, seconds."""
FAILED = (KafkaError, OSError, TimeoutError, StoresAway)


class Tenure:
    """The time in which this process publishes a partition. `topic_id`: as its progress row has it."""

    __slots__ = ("topic_id",)

    def __init__(self, topic_id: UUID) -> None:
        self.topic_id = topic_id


class Publication(msgspec.Struct, frozen=True):
    """What a batch has to tell of one partition; afterwards everything below `end` is published."""

    partition: int
    tenure: Tenure | None
    """In which the batch was decided."""
    end: int
    records: list[tuple[bytes, bytes]]


class Publisher:
    """One for each group that publishes. `events_topic` has the partitions of the commands' topic."""

    def __init__(self, group: str, broker: Broker, events_topic: str, store: ProgressStore, journal: Journal) -> None:
        self._group = group
        self._broker = broker
        self._topic = events_topic
        self._store = store
        self._journal = journal
        self._waiting: list[Publication] = []
        self._waiting_records = 0
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._published: dict[tuple[UUID, int], int] = {}
        self._told: dict[tuple[UUID, int], int] = {}
        self._tenures: dict[int, Tenure] = {}
        self.renew_cache: Callable[[list[Entry]], Awaitable[None]] | None = None
        self._busy = False
        self.progressed_at = monotonic()
        self.backing_off = False

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    @property
    def has_work(self) -> bool:
        """True while events wait, or are under way."""
        return bool(self._waiting) or self._busy

    async def crashed(self) -> None:
        """Never returns; raises what ended the publisher, after which its group has to start anew."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def stop(self, wait_s: float) -> None:
        """Publish what waits, `wait_s` at most; the rest stays in the journal for the next owner."""
        deadline = monotonic() + wait_s
        running = self._task is not None and not self._task.done()
        while running and (self._waiting or self._busy) and monotonic() < deadline:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), max(0.0, deadline - monotonic()))
        if self._task is not None:
            self._task.cancel()
        try:
            await asyncio.wait_for(self._tell(), 2.0)
        except (TimeoutError, *FAILED):
            log.debug("the published offset was not told; the next owner publishes a little again")

    async def add(self, publications: list[Publication]) -> None:
        """Queue what a batch has to tell; waits while too much waits already."""
        await self._room.wait()
        for publication in publications:
            # Of another tenure it stands in the journal, and is published from there.
            if publication.tenure is not None and publication.tenure is self.tenure(publication.partition):
                self._waiting.append(publication)
                self._waiting_records += len(publication.records)
        if self._waiting_records > MOST_WAITING:
            self._room.clear()
        self._work.set()

    def tenure(self, partition: int) -> Tenure | None:
        """The partition's tenure now; None while it is nobody's or somebody else's."""
        return self._tenures.get(partition)

    def take_published(self, topic_id: UUID, partition: int) -> int | None:
        """Up to where the partition is published, for the commit that takes it along; None if nothing is new."""
        offset = self._published.get((topic_id, partition))
        if offset is not None and offset > self._told.get((topic_id, partition), -1):
            self._told[(topic_id, partition)] = offset
            return offset
        return None

    def release(self) -> None:
        """The partitions may be somebody else's: what waits for them stands in the journal, for the next owner."""
        self._tenures.clear()
        self._waiting, self._waiting_records = [], 0
        self._room.set()

    async def take_over(self, partition: int, topic_id: UUID) -> None:
        """A new tenure, which begins when all that the journal has is published. Raises what FAILED names."""
        self._tenures.pop(partition, None)
        await self._catch_up(partition, topic_id)
        self._tenures[partition] = Tenure(topic_id)

    async def _catch_up(self, partition: int, topic_id: UUID) -> None:
        """Publish everything of a partition that the journal has and no owner confirmed, older lives first."""
        self._waiting = [publication for publication in self._waiting if publication.partition != partition]
        for standing in await self._store.lives(self._group, partition):
            await self._from_journal(partition, standing)
            if standing.topic_id == topic_id:
                break

    async def _from_journal(self, partition: int, standing: Standing) -> None:
        if standing.published_offset is None or standing.published_offset >= standing.next_offset:
            return
        # What this process knows to be acknowledged may be more than the row says yet.
        offset = max(standing.published_offset, self._published.get((standing.topic_id, partition), 0))
        index = count = 0
        while entries := await self._journal.after(partition, standing.life, offset, index):
            if self.renew_cache is not None:
                await self.renew_cache(entries)
            await self._send(partition, [(str(entry.aggregate_id).encode(), entry.event) for entry in entries])
            count += len(entries)
            self.progressed_at = monotonic()
            offset, index = entries[-1].command_offset, entries[-1].index + 1
        await self._store.published(self._group, standing.topic_id, partition, standing.next_offset)
        if count:
            log.info("%s: published %d events of partition %d from the journal", self._group, count, partition)

    async def _send(self, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        producer = self._broker.producer
        if producer is None:
            raise KafkaError(self._broker.away or "no broker")
        for batch in record_batches(producer, records, STRUCTURED_HEADERS):
            future = await producer.send_batch(batch, self._topic, partition=partition)
            await asyncio.wait_for(asyncio.shield(future), 35.0)

    async def _run(self) -> None:
        try:
            while True:
                await self._round()
        finally:
            self._room.set()  # nobody may wait for a publisher that is no more

    async def _round(self) -> None:
        try:
            async with asyncio.timeout(LAZY_S):
                await self._work.wait()
        except TimeoutError:
            await self._tell_quietly()
            return
        self._work.clear()
        waiting, self._waiting, self._waiting_records = self._waiting, [], 0
        self._room.set()
        if not waiting:
            return  # let go meanwhile, or taken over from the journal
        self._busy = True
        merged: dict[int, list[Publication]] = {}
        for publication in waiting:
            merged.setdefault(publication.partition, []).append(publication)
        await asyncio.gather(*(self._publish(partition, parts) for partition, parts in merged.items()))
        if len(waiting) > 1 or len(waiting[0].records) > 1:
            # Under load the next ones gather; a request of its own for each batch would cost all callers more.
            await asyncio.sleep(GATHER_S)
        self._busy = False
        self._idle.set()

    async def _publish(self, partition: int, parts: list[Publication]) -> None:
        tenure = parts[-1].tenure
        assert tenure is not None
        try:
            records = [record for part in parts for record in part.records]
            if records:
                await self._send(partition, records)
        except FAILED as error:
            log.warning(
                "%s: events of partition %d wait: %s", self._group, partition, str(error) or type(error).__name__
            )
            await self._again(partition, tenure)
        else:
            self.progressed_at = monotonic()
            key = (tenure.topic_id, partition)
            self._published[key] = max(self._published.get(key, 0), parts[-1].end)

    async def _again(self, partition: int, tenure: Tenure) -> None:
        """After a failure nobody knows what arrived: start again from the published offset, in the journal."""
        delay = 0.1
        failed = self._broker.producer
        while self.tenure(partition) is tenure:
            try:
                await self._broker.renew(failed)
                await self._catch_up(partition, tenure.topic_id)
                break
            except FAILED as error:
                failed = self._broker.producer
                refused = isinstance(error, KafkaError) and not error.retriable and self._broker.away is None
                self.backing_off = not refused
                log.debug("%s: partition %d still waits: %s", self._group, partition, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
        self.backing_off = False

    async def _tell_quietly(self) -> None:
        try:
            await self._tell()
        except FAILED as error:
            log.debug("%s: the published offset was not told: %s", self._group, error)

    async def _tell(self) -> None:
        for (topic_id, partition), offset in list(self._published.items()):
            if offset > self._told.get((topic_id, partition), -1):
                await self._store.published(self._group, topic_id, partition, offset)
                self._told[(topic_id, partition)] = offset
