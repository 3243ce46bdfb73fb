"""Faust's consumer thread without the thread, and how it fetches: on demand, a round over what is ready.

Private attributes of aiokafka 0.14.0 are used; see streams.consumer.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, server_list
from faust.types import TP
from mode import Service

from streams.batches import Batch, Unparsable
from streams.protocol import end_of_broken, leave_group
from streams.unpacking import take

if TYPE_CHECKING:
    from streams.consumer import BatchConsumer

log = logging.getLogger("yeoul.streams.in_loop")

IDLE_POLL_S = 0.5
"""How long a poll waits for records before the loop looks at its flags again, seconds."""
LEAVE_S = 2.0
"""How long a stop waits until the broker knows of it, seconds; then the session ends by itself."""
TELL_S = 2.0
"""How long Kafka may take to note offsets, seconds; it is told again with the next ones."""
CHUNK = 500
"""Records taken from one partition before it is the next one's turn."""


class InLoopConsumer(AIOKafkaConsumerThread):
    """Faust's consumer thread without the thread: the same calls, on the loop of the handlers."""

    def __init__(self, consumer: "BatchConsumer", *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)
        self._batches = consumer
        self._careful: set[TopicPartition] = set()  # read one record at a time, up to what can't be taken apart

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
            async with asyncio.timeout(LEAVE_S):
                await request
        except (KafkaError, TimeoutError) as error:
            why = str(error) or "no answer"
            log.info("could not leave %s by name (%s); its session ends by itself", self.app.conf.id, why)

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
        while ready and batch.count < self._batches.pace.records and size < self._batches.max_bytes:
            for partition in list(ready):
                result = fetcher._records[partition]
                if not hasattr(result, "getall"):
                    del fetcher._records[partition]
                    ready.remove(partition)
                    failed[partition] = result._error
                    continue
                chunk = 1 if partition in self._careful else CHUNK
                try:
                    records = take(result, min(chunk, self._batches.pace.records - batch.count))
                except Exception as error:  # whatever the parser says of bytes that it can't take apart
                    fetcher._records.pop(partition, None)
                    ready.remove(partition)
                    if partition not in self._careful:
                        # What it had taken apart before them is lost with them: all of it again, up to there.
                        self._careful.add(partition)
                    elif partition not in batch.records:
                        self._careful.discard(partition)
                        failed[partition] = Unparsable(f"{type(error).__name__}: {error}")
                    continue
                if records:
                    batch.records.setdefault(partition, []).extend(records)
                    batch.count += len(records)
                    size += sum([record.serialized_value_size for record in records])
                if not result.has_more():
                    self._careful.discard(partition)
                    del fetcher._records[partition]
                    ready.remove(partition)
                if batch.count >= self._batches.pace.records:
                    break
        fetcher._notify(fetcher._wait_consume_future)
        return failed

    async def unparsable(self, partition: TopicPartition, problem: Unparsable) -> str:
        """Which records can't be taken apart and where to go on, for an operator. Raises KafkaError."""
        begin = self._state(partition).position
        end = await end_of_broken(self.kafka._client, partition, begin)
        if end is None:
            raise KafkaError(f"the records from {begin} on can be taken apart now")
        return f"the records {begin} to {end - 1} can't be taken apart ({problem}); go on at {end}"

    async def tell(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit these offsets to Kafka for partitions still owned; False when it did not work."""
        owned = {TopicPartition(tp.topic, tp.partition) for tp in self.assignment_or_none()}
        commit = {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items() if tp in owned}
        try:
            if commit:
                async with asyncio.timeout(TELL_S):
                    await self._ensure_consumer().commit(commit)
        except (KafkaError, TimeoutError) as error:
            log.debug("offsets were not told to Kafka: %s", error)
            return False
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own livelock messages speak of records; the watchdog of streams.runtime looks at progress."""


def _round_robin() -> type:
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

    return cast("type", RoundRobinPartitionAssignor)
