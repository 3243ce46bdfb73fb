"""The batch transport: Faust's agents, groups and supervision, fed with polls instead of records.

What Faust costs, it costs for each event (about 40 microseconds of channel, stream and acknowledgement). Here one Faust
event is one poll of all partitions, raw bytes, so that price is paid once for thousands of records.

* Demand-driven: the next poll is handed over when the handler has finished with the one before; whatever arrived
  meanwhile makes one batch. Idle: small batches and low latency. Loaded: large ones and a group commit.
* The aiokafka consumer runs on the loop of the handlers, not in a thread of its own as in Faust: between two threads
  each poll would wait for the interpreter's lock twice. Heartbeats are safe as long as the loop is; the watchdog sees
  to that.
* Where a partition begins is asked of PostgreSQL (`Positions`), never of Kafka's committed offsets, which are written
  for lag tools only. An exception never acknowledges anything.

Private attributes of faust-streaming 0.15.3 and aiokafka 0.14.0 are used; both are pinned, and tests/contracts runs the
whole transport against a real broker.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from time import monotonic
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.topics import Topic
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP, ConsumerMessage

from stores import StoresAway
from streams.batches import Batch, Pace, Positions, Span, Unparsable
from streams.in_loop import IDLE_POLL_S, InLoopConsumer
from streams.work import THE_STORES, waits_for

log = logging.getLogger("yeoul.streams.consumer")

DRAIN_S = 10.0
"""A rebalance or a stop waits this long for the batch in hand, seconds; then it lets go (the fence does the rest).

Half of what a stop may take in all (streams.runtime): leaving the group and publishing what was committed follow.
"""


class BatchConsumer(Consumer):
    """Faust's consumer, with polls as messages. One for each group (Faust app)."""

    _thread: "InLoopConsumer"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        conf = self.app.conf
        self.positions: Positions = cast("Any", self.app).positions
        self.read_ahead: bool = cast("Any", self.app).read_ahead
        self.gather_s: float = cast("Any", self.app).gather_s
        self.pace = Pace(conf.broker_max_poll_records or 5000)
        self.max_bytes: int = cast("Any", self.app).batch_bytes
        self.letting_go = False
        self.generation = 0
        self.progressed_at = monotonic()
        self.backing_off = ""  # what the group waits for now, in words; none of it is stuck
        self.behind = False
        self._located: dict[TopicPartition, int] | None = None  # end of what was handed over, by partition
        self._outstanding: Batch | None = None
        self._polled: Batch | None = None
        self._may_poll = asyncio.Event()
        self._changed = asyncio.Event()  # something that the loop below waits for may be different now
        self._done: dict[TopicPartition, int] = {}  # finished, not yet told to Kafka
        self._turn = 0
        self._caught_up = False

    def _new_consumer_thread(self) -> "InLoopConsumer":
        return InLoopConsumer(self, loop=self.loop, beacon=self.beacon)

    # -- what a handler calls ----------------------------------------------------------------------------------------

    def finish(self, batch: Batch) -> None:
        """The batch is done, its progress is committed: remember it for Kafka's own books, and ask for the next."""
        for partition, span in batch.spans.items():
            self._done[partition] = span.end
        self.progressed_at = monotonic()
        self._release(batch)

    def rewind(self, batch: Batch, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Throw away what is buffered of these partitions (all by default) and read them again from the truth."""
        self.forget(partitions if partitions is not None else list(batch.spans))
        self._release(batch)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """What was fetched of these partitions is void; their positions are asked for again before the next poll."""
        for partition in partitions:
            if self._located is not None:
                self._located.pop(partition, None)
            if self._polled is not None:
                self._polled.drop(partition)
        self._changed.set()

    @property
    def has_work(self) -> bool:
        """True while a batch is in hand or waits to be, or there is more to read."""
        return self._outstanding is not None or self._polled is not None or self.behind

    async def look_behind(self) -> None:
        """See whether the broker has more than was handed over; the last fetch can't tell. Raises KafkaError."""
        assigned = {TopicPartition(tp.topic, tp.partition) for tp in self._thread.assignment_or_none()}
        located = self._located or {}
        read = [partition for partition in assigned if located.get(partition, 0) >= 0]  # those at -1 are stopped
        ends = await self._thread.kafka.end_offsets(read) if read else {}
        self.behind = any(end > located.get(partition, -1) for partition, end in ends.items())

    def _release(self, batch: Batch) -> None:
        if batch.message is not None:
            self._unacked_messages.discard(batch.message)
            # They hold each other: left so, thousands of records stay until the collector comes by.
            batch.message = None
        if self._outstanding is batch:
            self._outstanding = None
        self._may_poll.set()
        self._changed.set()

    # -- what Faust calls --------------------------------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Faust acknowledges only what its stream skips (a batch of an old generation): let go of it, keep nothing."""
        if not message.acked:
            message.acked = True
            self._release(message.value)
        return True

    async def perform_seek(self) -> None:
        """Faust's way to rewind to Kafka's committed offsets; positions are asked for by the loop below instead."""

    def stop_flow(self) -> None:
        """Wake the loop, too."""
        super().stop_flow()
        self._changed.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Drain, then let go."""
        await self.drain()
        self.positions.let_go()
        self.generation += 1
        self._reset()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Fetch nothing before the positions are known."""
        self.generation += 1
        self._reset()
        self._thread.pause_all()
        self.letting_go = False
        await super().on_partitions_assigned(assigned, generation_id)

    def _reset(self) -> None:
        self._located = None
        self._polled = None
        self._outstanding = None
        self._may_poll.set()
        self._changed.set()
        owned = {TopicPartition(tp.topic, tp.partition) for tp in self._thread.assignment_or_none()}
        self._done = {partition: end for partition, end in self._done.items() if partition in owned}

    async def drain(self) -> None:
        """Wait for the batch in hand, DRAIN_S at most; a handler that only waits for a store gives up at once."""
        self.letting_go = True
        deadline = monotonic() + DRAIN_S
        while self._outstanding is not None and monotonic() < deadline:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - monotonic())):
                    await self._changed.wait()
        if self._outstanding is not None:
            log.warning("let go of a batch that was not finished within %.0f s; it will be read again", DRAIN_S)

    async def on_stop(self) -> None:
        """Tell Kafka a last time where the group stands."""
        await self.force_commit()
        await super().on_stop()

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Tell Kafka where the group stands, for lag tools. A failure costs nothing: PostgreSQL knows better."""
        done, self._done = self._done, {}
        return await self._thread.tell(done) if done else True

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            await self._feed(fetcher)
        except asyncio.CancelledError:
            # The way in which it is stopped. While partitions move Faust takes that for a crash, and wakes a supervisor
            # that there is none of here: a stop that is in order would be told as two errors.
            if not fetcher.should_stop:
                raise

    async def _feed(self, fetcher: Any) -> None:
        """The loop of Faust's fetcher: positions, poll, hand over, wait until it is finished."""
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active or self.letting_go:
                await self._wait(self._changed)
            elif self._located is None or len(self._located) < len(self._thread.assignment_or_none()):
                await self._locate()
            elif self._polled is None and not self._may_poll.is_set():
                await self._wait(self._changed)
            elif self._polled is None:
                if self._caught_up and self.gather_s:
                    self._caught_up = False
                    await asyncio.sleep(self.gather_s)
                    continue  # the partitions may be somebody else's by now
                self._polled = await self._poll()
            elif self._outstanding is not None:
                await self._wait(self._changed)
            else:
                await self._hand_over()

    async def _wait(self, event: asyncio.Event) -> None:
        event.clear()
        # Not wait_for, which makes a task of each wait in Python 3.11: this one is passed twice a batch.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_POLL_S):
                await event.wait()

    async def _locate(self) -> None:
        generation = self.generation
        assigned = {TopicPartition(tp.topic, tp.partition) for tp in self._thread.assignment_or_none()}
        known = self._located or {}
        missing = assigned - known.keys()
        try:
            found = await self.positions.locate(self._thread.kafka, missing)
        except (StoresAway, KafkaError, OSError, TimeoutError) as error:
            what = waits_for(error) or THE_STORES
            if self.backing_off != what:
                log.warning("%s: positions are not known yet: %s", self.app.conf.id, str(error) or type(error).__name__)
            self.backing_off = what
            await self._wait(self._changed)
            return
        self.backing_off = ""
        if generation != self.generation or self.letting_go:
            return
        self._thread.seek_all(found)
        # A partition that is stopped stays known, at -1: it is neither fetched nor asked for again until forgotten.
        self._located = {**known, **dict.fromkeys(missing, -1), **found}

    async def _poll(self) -> Batch | None:
        assert self._located is not None
        active = {partition for partition, position in self._located.items() if position >= 0}
        generation = self.generation
        batch = Batch(self, generation)
        failed: dict[TopicPartition, Exception] = {}
        if active:
            self._turn += 1
            failed = await self._thread.poll(batch, active, self._turn)
        else:
            await self._wait(self._changed)
        try:
            self.forget(await self.positions.outdated(self._thread.kafka))
        except (StoresAway, KafkaError, OSError, TimeoutError) as error:
            log.debug("whether positions are still true could not be asked: %s", error)
        if generation != self.generation:
            return None
        for partition, problem in failed.items():
            if isinstance(problem, Unparsable):
                try:
                    reason = await self._thread.unparsable(partition, problem)
                    await self.positions.stop_partition(partition, reason)
                except (StoresAway, KafkaError) as error:
                    log.warning("a partition that can't be read was not stopped yet: %s", error)
                continue
            log.warning("%s/%s: %s; its position is looked up again", partition.topic, partition.partition, problem)
        self.forget(failed)
        for partition, position in self._thread.moved(self._located).items():
            batch.spans[partition] = Span(self._located[partition], position)
            self._located[partition] = position
        for partition in [key for key in batch.records if key not in batch.spans]:
            batch.drop(partition)  # forgotten meanwhile
        if not batch.spans:
            return None
        self._may_poll.clear()
        self._caught_up = batch.count < self.pace.records // 2
        return batch

    async def _hand_over(self) -> None:
        batch, self._polled = self._polled, None
        if batch is None or batch.generation != self.generation or not batch.spans:
            return
        partition = next(iter(batch.spans))
        message = ConsumerMessage(
            partition.topic, partition.partition, batch.spans[partition].end - 1, 0.0, 0, (), None, batch, None,
            0, 0, TP(partition.topic, partition.partition), generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        batch.message = message
        self._outstanding = batch
        if self.read_ahead:
            self._may_poll.set()
        await self.callback(message)


class BatchTransport(Transport):
    """Faust's aiokafka transport with batches."""

    Consumer = BatchConsumer


class BatchTopic(Topic):
    """Hands the batch on undecoded."""

    def _compile_decode(self) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self._create_event(None, message.value, None, message)

        return decode
