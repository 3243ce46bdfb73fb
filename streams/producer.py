"""The Kafka producers of fronts and workers: idempotent, acknowledged by all replicas."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, LeaderNotAvailableError, ProducerClosed
from aiokafka.partitioner import murmur2

from config import Settings
from streams.protocol import topic_info

log = logging.getLogger("yeoul.streams.producer")

REQUEST_TIMEOUT_S = 30
PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 1.0
READ_S = 0.1
"""How long the reading of an answer may take that has come, seconds."""
CUT_S = 0.1
"""How long a part of a producer may take to end before it is told again, seconds."""


def new(settings: Settings, name: str) -> AIOKafkaProducer:
    """A producer that is not started yet."""
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka_url.split(","),
        client_id=f"yeoul-{name}",
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=1 << 20,
        max_request_size=8 << 20,
        request_timeout_ms=REQUEST_TIMEOUT_S * 1000,
        retry_backoff_ms=50,
        metadata_max_age_ms=60_000,
    )


class Broker:
    """A producer, and whether the broker can be reached now. Starts itself when the broker appears."""

    def __init__(
        self, settings: Settings, name: str, topics: list[str], went: Callable[[str], None] = lambda reason: None
    ) -> None:
        """`topics`: those whose partitions will be asked for; without one of them the broker counts as away.

        `went` is called with the reason when the broker is found to be away.
        """
        self._settings = settings
        self._name = name
        self._topics = topics
        self._went = went
        self._task: asyncio.Task[None] | None = None
        self.producer: AIOKafkaProducer | None = None
        self.away: str | None = "the broker was not reached yet"
        self._probing = asyncio.Lock()
        self._renewals: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._back = asyncio.Event()
        self._partitions: dict[str, int] = {}
        self._told = False

    async def start(self) -> None:
        """Begin to look for the broker; returns after the first try."""
        await self._probe()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Flush for 5 s at most, and close."""
        self._stopping = True
        self._back.set()
        if self._task is not None:
            self._task.cancel()
            # Bounded, and told besides: in Python 3.11 a cancellation that meets the end of a wait_for is lost.
            await asyncio.wait([self._task, *self._renewals], timeout=5.0)
        producer, self.producer = self.producer, None
        if producer is not None:
            await close(producer, 5.0)

    async def renew(self, failed: AIOKafkaProducer | None) -> None:
        """Throw a producer away after a failure that it may not get over; whoever comes second finds it done."""
        if failed is not None:
            # In a task of its own: if who asked for it is cancelled, no producer is left that is closed by half.
            renewal = asyncio.create_task(self._renew(failed))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
            await asyncio.shield(renewal)

    async def _renew(self, failed: AIOKafkaProducer) -> None:
        async with self._probing:  # nobody may ask the old one while it is closed
            if self.producer is not failed or self._stopping:
                return
            self.producer = None
            self._back.clear()
            await close(failed, 1.0)
            await self._look()

    async def current(self) -> AIOKafkaProducer:
        """The producer; one that is being replaced is waited for. Raises KafkaError while the broker is away."""
        if self.producer is None:
            async with self._probing:
                pass
        if self.producer is None:
            raise KafkaError(self.away or "no broker")
        return self.producer

    async def back(self) -> None:
        """Wait until there is a producer again, or none will be any more since this was stopped."""
        await self._back.wait()

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; known once the broker was reached."""
        return self._partitions[topic]

    async def _watch(self) -> None:
        while not self._stopping:
            await asyncio.sleep(PROBE_EVERY_S)
            await self._probe()

    async def _probe(self) -> None:
        async with self._probing:
            await self._look()

    async def _look_at_topics(self, producer: AIOKafkaProducer) -> None:
        # Asked first: aiokafka would wait for a topic that does not exist, and not tell its name.
        async with asyncio.timeout(5.0):
            infos = await topic_info(producer.client, self._topics)
        for topic, info in infos.items():
            if info.id is None:
                raise KafkaError(f"topic {topic} does not exist; ./yeoul topics makes it")
        for topic in self._topics:
            async with asyncio.timeout(5.0):
                self._partitions[topic] = len(await producer.partitions_for(topic))

    async def _look(self) -> None:
        try:
            if self.producer is None:
                producer = new(self._settings, self._name)
                try:
                    async with asyncio.timeout(5.0):
                        await producer.start()
                    await self._look_at_topics(producer)
                except BaseException:
                    await close(producer, 1.0)
                    raise
                self.producer = producer
                self._back.set()
            else:
                await _answers(self.producer, self._topics[:1])
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            if not self._told:
                log.warning("the broker is away: %s", str(error) or type(error).__name__)
            self._told = True
            self.away = str(error) or type(error).__name__
            self._went(self.away)
        else:
            if self.away is not None:
                log.info("the broker is there")
            self.away = None
            self._told = False


async def _answers(producer: AIOKafkaProducer, topics: list[str]) -> None:
    """Raises TimeoutError where the broker does not answer, KafkaError and others as aiokafka does."""
    probe = asyncio.create_task(topic_info(producer.client, topics))
    try:
        await asyncio.wait([probe], timeout=PROBE_TIMEOUT_S)
        # If this process itself stood still meanwhile, the answer is there and only has to be read.
        await asyncio.wait([probe], timeout=READ_S)
        if not probe.done():
            raise TimeoutError(f"no answer within {PROBE_TIMEOUT_S:g} s")
        await probe
    finally:
        probe.cancel()


async def close(producer: AIOKafkaProducer, within_s: float) -> None:
    """Stop a producer; what is not acknowledged within `within_s` seconds fails with ProducerClosed."""
    try:
        async with asyncio.timeout(within_s):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        log.info("a producer did not stop in order, it is cut off: %s", str(error) or type(error).__name__)
        await _cut_off(producer)


async def _cut_off(producer: AIOKafkaProducer) -> None:
    # aiokafka 0.14.0 takes a producer for closed as soon as `stop` was called: it can't be called again, and one that
    # was cut short has closed nothing. The sender would go on for ever with what a frozen broker does not acknowledge,
    # and keep its connections. Hence its private parts, in the order in which none of them makes a new one.
    client, sender = producer.client, producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await _disconnect(client)
    while sender is not None and not sender.done():
        sender.cancel()  # the first time it waits for its requests, the next time it leaves them
        if client._md_update_fut is not None and not client._md_update_fut.done():
            client._md_update_fut.set_result(False)  # they wait for metadata that nobody fetches any more
        await asyncio.wait([sender], timeout=CUT_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await _disconnect(client)  # what connected meanwhile
    accumulator = producer._message_accumulator
    unsent = [batch for batches in accumulator._batches.values() for batch in batches]
    accumulator.fail_all(ProducerClosed())
    for batch in unsent:
        batch._drain_waiter.exception()  # nobody waits for it any more: asyncio need not complain that nobody looked


async def _disconnect(client: Any) -> None:
    for connection in list(client._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()  # closing waits until a frozen broker has read what was written
    await client.close()


async def led(producer: AIOKafkaProducer, topic: str, partition: int) -> None:
    """Raises LeaderNotAvailableError if nobody can take records of the partition now; KafkaError, TimeoutError.

    A record batch without a leader would wait 30 s in the producer, and then the producer miscounts the partition.
    """
    client, key = producer.client, TopicPartition(topic, partition)
    if _leaderless(client.cluster.leader_for_partition(key)):
        client.add_topic(topic)
        async with asyncio.timeout(5.0):
            await client.force_metadata_update()
        leader = client.cluster.leader_for_partition(key)
        if leader is None:
            raise LeaderNotAvailableError(f"{topic}/{partition} does not exist; ./yeoul topics makes the topic")
        if _leaderless(leader):
            raise LeaderNotAvailableError(f"{topic}/{partition} has no leader")


async def partition_of(producer: AIOKafkaProducer, topic: str, key: bytes) -> int:
    """The partition of a key, once it has a leader. Raises as `led`."""
    async with asyncio.timeout(5.0):
        partition = partition_for(key, len(await producer.partitions_for(topic)))
    await led(producer, topic, partition)
    return partition


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key among so many: as the Java client has it, so that other producers agree."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def _leaderless(leader: int | None) -> bool:
    return leader is None or leader < 0


def record_batches(producer: AIOKafkaProducer, records: list[tuple[bytes, bytes]], headers: Any) -> Iterator[Any]:
    """Records of one partition, in order, in as few record batches as their size allows, each made when it is due."""
    builder = producer.create_batch()
    for key, value in records:
        if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            builder.close()
            yield builder
            builder = producer.create_batch()
            if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                raise ValueError(f"a record of {len(value)} bytes fits in no record batch")
    if builder.record_count():
        builder.close()
        yield builder
