"""The batch transport: Faust's agents, groups and supervision, fed with polls instead of records.

What Faust costs, it costs for each event (about 40 microseconds of channel, stream and acknowledgement). Here one Faust
event is one poll of all partitions, raw bytes, so that price is paid once for thousands of records.

* Demand-driven: the next poll is handed over when the handler has finished with the one before; whatever arrived
  meanwhile makes one batch. Idle: small batches and low latency. Loaded: large ones and a group commit.
* The aiokafka consumer runs on the loop of the handlers, not in a thread of its own as in Faust: between two threads
each
  poll would wait for the interpreter's lock twice. Heartbeats are safe as long as the loop is; the watchdog sees to
  that.
* Where a partition begins is asked of PostgreSQL (`Positions`), never of Kafka's committed offsets, which are written
for
  lag tools only. An exception never acknowledges anything.

Private attributes of faust-streaming 0.15.3 and aiokafka 0.14.0 are used; both are pinned, and tests/contracts runs the
whole transport against a real broker.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Protocol, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from faust.topics import Topic
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    server_list,
)
from faust.types import TP, ConsumerMessage
from mode import Service

from stores import StoresAway
from streams.protocol import leave_group

log = logging.getLogger("yeoul.streams.batches")


IDLE_POLL_S = 0.5
"""How long a poll waits for records before the loop looks at its flags again, seconds."""
DRAIN_S = 20.0
"""A rebalance or a stop waits this long for the batch in hand, seconds; then it lets go (the fence does the rest)."""
CHUNK = 500
"""Records taken from one partition before it is the next one's turn."""


class Span:
    """The part of a partition that a batch covers: offsets from `begin` (included) to `end` (excluded).

    Not record offsets: they may jump over transaction markers and compacted records, positions do not.
    """

    __slots__ = ("begin", "end")

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end

    def __repr__(self) -> str:
        return f"{self.begin}..{self.end}"


class Batch:
    """One poll: records and span of each partition. Raw bytes; a partition may have a span and no records."""

    __slots__ = ("consumer", "count", "generation", "message", "records", "spans")

    def __init__(self, consumer: "BatchConsumer", generation: int) -> None:
        self.consumer = consumer
        self.generation = generation
        self.records: dict[TopicPartition, list[ConsumerRecord]] = {}
        self.spans: dict[TopicPartition, Span] = {}
        self.count = 0
        self.message: ConsumerMessage | None = None

    @property
    def live(self) -> bool:
        """False once the partitions may belong to somebody else: give up, don't retry."""
        return self.consumer.generation == self.generation and not self.consumer.letting_go

    def ready_for_next(self) -> None:
        """The hard part is done: the next poll may begin now; it is handed over when this batch is finished."""
        self.consumer.look_ahead()

    def drop(self, partition: TopicPartition) -> None:
        """Forget a partition of this batch; it will be read again from where the truth says."""
        self.spans.pop(partition, None)
        self.count -= len(self.records.pop(partition, ()))


class Unparsable(Exception):
    """The records from here on can't be taken apart by Kafka's client: an operator has to say where to go on."""


class Positions(Protocol):
    """Where each partition of a group stands. The one implementation is streams.progress.Progress."""

    async def locate(
        self, kafka: aiokafka.AIOKafkaConsumer, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """The next offset of each partition; one left out is stopped. Raises StoresAway, KafkaError."""

    async def stop_partition(self, key: TopicPartition, reason: str) -> None:
        """Read the partition no more until an operator says so. Raises StoresAway."""

    def let_go(self) -> None:
        """The partitions may be somebody else's from now on."""

    async def outdated(self, kafka: aiokafka.AIOKafkaConsumer) -> list[TopicPartition]:
        """Partitions whose topic is not the one that was located, or that are stopped no longer.

        Raises StoresAway, KafkaError.
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
        self.max_records: int = conf.broker_max_poll_records or 5000
        self.max_bytes: int = cast("Any", self.app).batch_bytes
        self.letting_go = False
        self.generation = 0
        self.progressed_at = monotonic()
        self.backing_off = False
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

    def look_ahead(self) -> None:
        """Let the next poll begin while the batch in hand is being finished."""
        self._may_poll.set()

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

    def _release(self, batch: Batch) -> None:
        if batch.message is not None:
            self._unacked_messages.discard(batch.message)
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
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - monotonic()))
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
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), IDLE_POLL_S)

    async def _locate(self) -> None:
        generation = self.generation
        assigned = {TopicPartition(tp.topic, tp.partition) for tp in self._thread.assignment_or_none()}
        known = self._located or {}
        missing = assigned - known.keys()
        try:
            found = await self.positions.locate(self._thread.kafka, missing)
        except (StoresAway, KafkaError, OSError, TimeoutError) as error:
            if not self.backing_off:
                log.warning("%s: positions are not known yet: %s", self.app.conf.id, str(error) or type(error).__name__)
            self.backing_off = True
            await self._wait(self._changed)
            return
        self.backing_off = False
        self.progressed_at = monotonic()
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
                    await self.positions.stop_partition(partition, str(problem))
                except StoresAway as error:
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
        self._caught_up = batch.count < self.max_records // 2
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


class InLoopConsumer(AIOKafkaConsumerThread):
    """Faust's consumer thread without the thread: the same calls, on the loop of the handlers."""

    def __init__(self, consumer: BatchConsumer, *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)
        self._batches = consumer

    async def start(self) -> None:
        """Without a thread."""
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        """Without a thread."""
        await Service.stop(self)

    async def on_stop(self) -> None:
        """Leave the group by name, then stop."""
        if self._consumer is not None:
            await self._leave(self._consumer)
            await self._consumer.stop()
        self._shutdown.set()

    async def _leave(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        coordinator = consumer._coordinator
        instance = self.app.conf.consumer_group_instance_id
        if not instance or coordinator is None or coordinator.coordinator_id is None or coordinator.generation <= 0:
            return
        try:
            request = leave_group(
                consumer._client, coordinator.coordinator_id, self.app.conf.id, coordinator.member_id, instance
            )
            await asyncio.wait_for(request, 2.0)
        except (KafkaError, TimeoutError) as error:
            log.info("could not leave %s by name (%s); its session ends by itself", self.app.conf.id, error)

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it here."""
        result = fun(*args, **kwargs)
        return await result if asyncio.iscoroutine(result) or isinstance(result, asyncio.Future) else result

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        consumer = aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[_round_robin()],
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=self._batches.max_bytes,
            fetch_max_wait_ms=int(IDLE_POLL_S * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            retry_backoff_ms=100,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            isolation_level="read_committed",
        )
        # aiokafka leaves the group for good when nobody has fetched for max_poll_interval. We fetch on demand, and a
        # batch may wait for PostgreSQL as long as that takes: being alive is the watchdog's matter, so this counts as
        # fetching, always.
        consumer._subscription._fetch_count += 1
        return consumer

    # -- what the batch consumer calls -------------------------------------------------------------------------------

    @property
    def kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer."""
        return self._ensure_consumer()

    def assignment_or_none(self) -> set[TP]:
        """The partitions assigned now; none before the consumer has started."""
        return self.assignment() if self._consumer is not None else set()

    def _state(self, partition: TopicPartition) -> Any:
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        return assignment.state_value(partition) if assignment is not None else None

    def pause_all(self) -> None:
        """Fetch nothing until positions are known: a long poll at a wrong place would hold the right one up."""
        for partition in self.assignment_or_none():
            self._state(TopicPartition(partition.topic, partition.partition)).pause()

    def seek_all(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read each partition from the offset given."""
        for partition, offset in positions.items():
            self._ensure_consumer()._fetcher.seek_to(partition, offset)

    def moved(self, located: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The partitions whose position is beyond what was handed over, by records or by transaction markers alone."""
        found = {}
        for partition, handed_over in located.items():
            state = self._state(partition) if handed_over >= 0 else None
            if state is not None and state.has_valid_position and state.position > handed_over:
                found[partition] = state.position
        return found

    def lag(self) -> int:
        """Records on the broker that were not read yet, as far as the last fetches told."""
        total = 0
        for tp in self.assignment_or_none():
            state = self._state(TopicPartition(tp.topic, tp.partition))
            if state is not None and state.highwater is not None and state.has_valid_position:
                total += max(0, state.highwater - state.position)
        return total

    async def poll(self, batch: Batch, active: set[TopicPartition], turn: int) -> dict[TopicPartition, Exception]:
        """Fill the batch with what has been fetched, waiting up to IDLE_POLL_S; returns partitions with an error."""
        fetcher = self._ensure_consumer()._fetcher
        for partition in active:
            self._state(partition).resume()
        fetcher._notify(fetcher._wait_consume_future)
        failed = self._take(fetcher, batch, active, turn)
        if not batch.count and not failed:
            waiter = fetcher._create_fetch_waiter()
            await asyncio.wait([waiter], timeout=IDLE_POLL_S)
            waiter.cancel()
            if self._batches.generation != batch.generation:
                return {}
            failed = self._take(fetcher, batch, active, turn)
        if not self._batches.read_ahead:
            # In the same step of the loop, so that no fetch starts for records that come before the next demand: it
            # would come back with the first one of them, and the rest would wait for another round.
            for partition in active:
                if partition not in fetcher._records:
                    self._state(partition).pause()
        return failed

    def _take(
        self, fetcher: Any, batch: Batch, active: set[TopicPartition], turn: int
    ) -> dict[TopicPartition, Exception]:
        failed: dict[TopicPartition, Exception] = {}
        ready = [partition for partition in fetcher._records if partition in active]
        turn %= len(ready) or 1
        ready = ready[turn:] + ready[:turn]
        size = 0
        while ready and batch.count < self._batches.max_records and size < self._batches.max_bytes:
            for partition in list(ready):
                result = fetcher._records[partition]
                if not hasattr(result, "getall"):
                    del fetcher._records[partition]
                    ready.remove(partition)
                    failed[partition] = result._error
                    continue
                try:
                    records = result.getall(min(CHUNK, self._batches.max_records - batch.count))
                except Exception as error:  # whatever the parser says of bytes that it can't take apart
                    fetcher._records.pop(partition, None)
                    ready.remove(partition)
                    failed[partition] = Unparsable(f"{type(error).__name__}: {error}")
                    continue
                if records:
                    batch.records.setdefault(partition, []).extend(records)
                    batch.count += len(records)
                    size += sum([record.serialized_value_size for record in records])
                if not result.has_more():
                    del fetcher._records[partition]
                    ready.remove(partition)
                if batch.count >= self._batches.max_records:
                    break
        fetcher._notify(fetcher._wait_consume_future)
        return failed

    async def tell(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit these offsets to Kafka for partitions still owned; False when it did not work."""
        owned = {TopicPartition(tp.topic, tp.partition) for tp in self.assignment_or_none()}
        commit = {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items() if tp in owned}
        try:
            if commit:
                await asyncio.wait_for(self._ensure_consumer().commit(commit), 2.0)
        except (KafkaError, TimeoutError) as error:
            log.debug("offsets were not told to Kafka: %s", error)
            return False
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own livelock messages speak of records; the watchdog of streams.runtime looks at progress."""


def _round_robin() -> type:
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

    return cast("type", RoundRobinPartitionAssignor)


class BatchTransport(Transport):
    """Faust's aiokafka transport with batches."""

    Consumer = BatchConsumer


class BatchTopic(Topic):
    """Hands the batch on undecoded."""

    def _compile_decode(self) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self._create_event(None, message.value, None, message)

        return decode
