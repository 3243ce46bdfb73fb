"""Publishing what was committed: contiguous, in order, retried without limit, while the next batch is decided.

Events of a batch that began at b are published only once everything of that partition below b is acknowledged. What is
not yet published stands in the journal: after a failure, at assignment and after every fence mismatch the owner
publishes from there, with the same ids and sequences, so readers drop what they have seen. No outbox is polled.

A tenure lasts from where a partition was taken over to where it is let go or taken over anew. What was decided in one
is never queued in another: a gap may lie below it, which only the journal can fill.

Each partition has a task of its own while something of it is under way. One that takes longer than PATIENCE_S, or that
fails, falls behind: nothing is queued for it any more, since the journal has it all, and the others go on. It catches
up from the journal, and is level again when nothing is missing below what is queued then.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from stores import StoresAway
from stores.aggregates import Entry, Journal
from stores.progress import ProgressStore, Standing
from streams.backlog import Backlog, Publication, Tenure
from streams.envelope import STRUCTURED_HEADERS
from streams.producer import Broker, led, record_batches
from streams.published import Published

__all__ = ["Publication", "Publisher", "Tenure"]

log = logging.getLogger("yeoul.streams.publisher")

GATHER_S = 0.1
"""How long events gather under load, seconds. Nobody's answer waits for them, and each request costs the worker and the
broker as much as five commands do, and then their readers the same."""
LAZY_S = 0.2
"""How long a published offset may wait for a batch whose commit takes it along, seconds."""
PATIENCE_S = 1.0
"""How long the other partitions, or a take-over, wait for one, seconds."""
ACKNOWLEDGED_S = 35.0
"""How long an acknowledgement may take before the partition starts again from the journal, seconds."""
RETRY_S, RETRY_MOST_S = 0.1, 2.0
RENEW_MOST_S = 30.0
"""Between two tries of a partition that is behind, seconds: they double, up to the second figure; up to the last one if
each try costs all partitions their producer."""
FAILED = (KafkaError, OSError, TimeoutError, StoresAway)


class Publisher:
    """One for each group that publishes. `events_topic` has the partitions of the commands' topic."""

    def __init__(self, group: str, broker: Broker, events_topic: str, store: ProgressStore, journal: Journal) -> None:
        self._group = group
        self._broker = broker
        self._topic = events_topic
        self._store = store
        self._journal = journal
        self._backlog = Backlog()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._ended = False
        self._published = Published(group, store)
        self._tenures: dict[int, Tenure] = {}
        self._miscounting: dict[int, AIOKafkaProducer] = {}
        self._backing_off: set[int] = set()
        self.renew_cache: Callable[[list[Entry]], Awaitable[None]] | None = None
        self.progressed_at = monotonic()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    @property
    def has_work(self) -> bool:
        """True while events wait, or are under way."""
        return bool(self._backlog) or bool(self._under_way)

    @property
    def backing_off(self) -> bool:
        """True while all that is under way waits for something that is away."""
        return bool(self._under_way) and self._under_way.keys() <= self._backing_off

    @property
    def behind(self) -> int:
        """Partitions whose events are not published at once: the journal has more of them."""
        return sum(tenure.behind for tenure in self._tenures.values())

    async def crashed(self) -> None:
        """Never returns; raises what ended the publisher, after which its group has to start anew."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def stop(self, wait_s: float) -> None:
        """Publish what waits, `wait_s` at most; the rest stays in the journal for the next owner."""
        deadline = monotonic() + wait_s
        running = self._task is not None and not self._task.done()
        while running and self.has_work and monotonic() < deadline:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - monotonic())):
                    await self._idle.wait()
        tasks = [*self._under_way.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
        try:
            async with asyncio.timeout(2.0):
                await self._published.tell()
        except (TimeoutError, *FAILED):
            log.debug("the published offset was not told; the next owner publishes a little again")

    async def add(self, publications: list[Publication]) -> None:
        """Queue what a batch has to tell; waits while too much waits already."""
        await self._backlog.room()
        if self._ended:
            return
        for publication in publications:
            tenure = publication.tenure
            # Of another tenure, or behind, it stands in the journal, and is published from there.
            if tenure is not None and tenure is self.tenure(publication.partition) and not tenure.behind:
                self._backlog.put(publication)
        self._work.set()

    def tenure(self, partition: int) -> Tenure | None:
        """The partition's tenure now; None while it is nobody's or somebody else's."""
        return self._tenures.get(partition)

    def take_published(self, topic_id: UUID, partition: int) -> int | None:
        """Up to where the partition is published, for the commit that takes it along; None if nothing is new."""
        return self._published.take(topic_id, partition)

    def release(self) -> None:
        """The partitions may be somebody else's: what waits for them stands in the journal, for the next owner."""
        self._tenures.clear()
        self._backlog.drop()
        self._idle.set()

    async def take_over(self, partition: int, topic_id: UUID) -> None:
        """A new tenure. Returns when all that the journal has is published, or after PATIENCE_S: then it is behind."""
        self._tenures.pop(partition, None)
        self._backlog.drop(partition)
        if partition in self._under_way:
            before = self._under_way[partition]
            await asyncio.wait([before], timeout=PATIENCE_S)
            before.cancel()  # nobody knows what arrived of it; the journal does it all again
            self._backing_off.discard(partition)
        tenure = self._tenures[partition] = Tenure(topic_id)
        await asyncio.wait([self._begin(partition, self._catch_up(partition, tenure))], timeout=PATIENCE_S)
        if tenure.behind and self.tenure(partition) is tenure:
            log.warning("%s: partition %d was taken over; its events follow from the journal", self._group, partition)

    # -- what was just decided ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                await self._round()
        finally:
            self._ended = True
            self._backlog.drop()  # nobody may wait for a publisher that is no more

    async def _round(self) -> None:
        try:
            async with asyncio.timeout(LAZY_S):
                await self._work.wait()
        except TimeoutError:
            try:
                await self._published.tell()
            except FAILED as error:
                log.debug("%s: the published offset was not told: %s", self._group, error)
            return
        self._work.clear()
        if self._failure is not None:
            raise self._failure
        taken = self._backlog.take(self._under_way)
        if not taken:
            return  # let go meanwhile, or behind what is under way
        started = {
            partition: self._begin(partition, self._publish(partition, parts)) for partition, parts in taken.items()
        }
        _done, late = await asyncio.wait(started.values(), timeout=PATIENCE_S)
        for partition in [partition for partition, task in started.items() if task in late]:
            self._fall_behind(partition, taken[partition][-1].tenure)
        if sum(map(len, taken.values())) > 1 or len(next(iter(taken.values()))[0].records) > 1:
            # Under load the next ones gather; a request of its own for each batch would cost all callers more.
            await asyncio.sleep(GATHER_S)

    def _begin(self, partition: int, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._under_way[partition] = asyncio.create_task(work)
        task.add_done_callback(functools.partial(self._end, partition))
        return task

    def _end(self, partition: int, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            self._work.set()
        if self._under_way.get(partition) is task:
            del self._under_way[partition]
            self._backing_off.discard(partition)
            if partition in self._backlog:
                self._work.set()
        if not self.has_work:
            self._idle.set()

    def _fall_behind(self, partition: int, tenure: Tenure | None) -> None:
        if tenure is not None and self.tenure(partition) is tenure:
            tenure.behind = True
            self._backlog.drop(partition)

    async def _publish(self, partition: int, parts: list[Publication]) -> None:
        tenure = parts[-1].tenure
        assert tenure is not None
        # Some of what was queued while the partition caught up was published from the journal already.
        published = self._published.known(tenure.topic_id, partition)
        records = [record for part in parts if part.end > published for record in part.records]
        try:
            if records:
                await self._send(partition, records)
        except FAILED as error:
            log.warning("%s: events of partition %d wait: %s", self._group, partition, _text(error))
            self._fall_behind(partition, tenure)
        else:
            self.progressed_at = monotonic()
            self._published.note(tenure.topic_id, partition, parts[-1].end)
        if tenure.behind:
            await self._catch_up(partition, tenure)

    async def _send(self, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        producer = await self._broker.current()
        await led(producer, self._topic, partition)
        for batch in record_batches(producer, records, STRUCTURED_HEADERS):
            try:
                future = await producer.send_batch(batch, self._topic, partition=partition)
                async with asyncio.timeout(ACKNOWLEDGED_S):
                    await asyncio.shield(future)
            except KafkaTimeoutError:
                raise  # behind one that is still on its way, it did not enter the producer
            except KafkaError:
                # The broker counts what an idempotent producer sends to a partition, and has counted this one or not.
                self._miscounting[partition] = producer
                raise

    # -- from the journal --------------------------------------------------------------------------------------------

    async def _catch_up(self, partition: int, tenure: Tenure) -> None:
        """After a failure nobody knows what arrived: start again from the published offset, in the journal."""
        delay = RETRY_S
        while self.tenure(partition) is tenure:
            try:
                await self._broker.renew(self._miscounting.pop(partition, None))
                await self._publish_journal(partition, tenure)
                # What is added from now on is queued, behind this task. The journal has what was added until now, so
                # this second time leaves no gap; and it is short, however many commands come meanwhile.
                tenure.behind = False
                async with asyncio.timeout(PATIENCE_S):
                    await self._publish_journal(partition, tenure)
                return
            except FAILED as error:
                self._fall_behind(partition, tenure)
                if not self._refused(error):
                    self._backing_off.add(partition)
                log.debug("%s: partition %d still waits: %s", self._group, partition, _text(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, RENEW_MOST_S if partition in self._miscounting else RETRY_MOST_S)

    def _refused(self, error: BaseException) -> bool:
        """True if waiting will not help: the broker is there and does not take it."""
        known = isinstance(error, KafkaError) and not isinstance(error, KafkaTimeoutError) and not error.retriable
        return known and self._broker.away is None

    async def _publish_journal(self, partition: int, tenure: Tenure) -> None:
        """Publish everything of a partition that the journal has and no owner confirmed, older lives first."""
        for standing in await self._store.lives(self._group, partition):
            await self._publish_life(partition, standing, tenure)
            if standing.topic_id == tenure.topic_id:
                break

    async def _publish_life(self, partition: int, standing: Standing, tenure: Tenure) -> None:
        if standing.published_offset is None or standing.published_offset >= standing.next_offset:
            return
        # What this process knows to be acknowledged may be more than the row says yet.
        offset = max(standing.published_offset, self._published.known(standing.topic_id, partition))
        index = count = 0
        while entries := await self._journal.after(partition, standing.life, offset, index):
            if self.tenure(partition) is not tenure:
                return
            if self.renew_cache is not None:
                await self.renew_cache(entries)
            await self._send(partition, [(str(entry.aggregate_id).encode(), entry.event) for entry in entries])
            count += len(entries)
            self.progressed_at = monotonic()
            offset, index = entries[-1].command_offset, entries[-1].index + 1
            self._published.note(standing.topic_id, partition, offset)
        # The events of a command are committed together: none of the last one is missing.
        end = max(standing.next_offset, offset + 1 if count else 0)
        await self._published.tell_of(standing.topic_id, partition, end)
        if count:
            log.info("%s: published %d events of partition %d from the journal", self._group, count, partition)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
