"""A group member over the batch transport, whose handler waits for the test, and positions that the test can see."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Self, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord

from config import Settings
from streams import runtime
from streams.app import GroupApp, build_app
from streams.batches import Batch
from streams.consumer import BatchConsumer
from streams.groups import ReaderGroup
from streams.protocol import topic_info

HANG_S = 40.0
"""Bounds a test that hangs; no test waits this long for anything that works, seconds."""

_names = itertools.count()


class Positions:
    """The truth of where the group stands, as the transport asks for it: kept here, moved by compare-and-set."""

    def __init__(self) -> None:
        self.at: dict[TopicPartition, int] = {}
        self.stopped: set[TopicPartition] = set()
        self.asked: list[set[TopicPartition]] = []
        self.mismatches = 0
        self._ids: dict[str, Any] = {}
        self.watch_ids = False

    async def locate(self, kafka: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = set(partitions)
        self.asked.append(wanted)
        if self.watch_ids:
            await self._look_at_ids(kafka, {partition.topic for partition in wanted})
        return {partition: self.at.setdefault(partition, 0) for partition in wanted - self.stopped}

    async def _look_at_ids(self, kafka: AIOKafkaConsumer, names: set[str]) -> None:
        for name, info in (await topic_info(kafka._client, list(names))).items():
            if name in self._ids and info.id != self._ids[name]:
                self.at = {key: 0 if key.topic == name else at for key, at in self.at.items()}
            self._ids[name] = info.id

    async def stop_partition(self, key: TopicPartition, reason: str) -> None:
        self.stopped.add(key)

    def let_go(self) -> None:
        pass

    async def outdated(self, kafka: AIOKafkaConsumer) -> list[TopicPartition]:
        if not self.watch_ids or not self._ids:
            return []
        infos = await topic_info(kafka._client, list(self._ids))
        anew = {name for name, info in infos.items() if info.id is not None and info.id != self._ids[name]}
        return [key for key in self.at if key.topic in anew]

    def move(self, batch: Batch) -> bool:
        """As the fence does: every partition of the batch or none."""
        if any(self.at.get(key) != span.begin for key, span in batch.spans.items()):
            self.mismatches += 1
            return False
        self.at.update({key: span.end for key, span in batch.spans.items()})
        return True


class Member:
    """One member of a group. `next()` is the batch that its handler holds; `finish()` lets the handler go on."""

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: list[str],
        positions: Positions,
        *,
        instance: str = "a",
        read_ahead: bool = False,
        batch_bytes: int | None = None,
        handle: Callable[[Batch], Awaitable[None]] | None = None,
    ) -> None:
        self.group = f"{settings.topic_prefix}.{group}"
        self.positions = positions
        self._settings = settings
        self._topics = topics
        self._instance = f"{self.group}-{instance}"
        self._shape = ReaderGroup(group, (), cast("Any", None), read_ahead=read_ahead, gather_s=0.0)
        self._batch_bytes = batch_bytes
        self._handle = handle
        self._handed: asyncio.Queue[Batch] = asyncio.Queue()
        self._go_on: asyncio.Event = asyncio.Event()
        self._raise: BaseException | None = None
        self._settled = True
        self.app: GroupApp | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = build_app(self._settings, self._shape, self.group, self._instance, cast("Any", self.positions))
        if self._batch_bytes is not None:
            app.batch_bytes = self._batch_bytes
        runtime._agent(app, self._shape, self._topics, cast("Any", self))
        self.app = app
        await app.start()

    async def stop(self) -> None:
        """As a worker stops; a handler that holds a batch gives up."""
        if self.app is None:
            return
        app, self.app = self.app, None
        stopping = asyncio.create_task(app.stop())
        while not stopping.done():
            await asyncio.wait([stopping], timeout=0.02)
            self.give_up()
        await stopping

    @property
    def consumer(self) -> BatchConsumer:
        assert self.app is not None
        assert self.app.batch_consumer is not None
        return self.app.batch_consumer

    @property
    def assigned(self) -> set[TopicPartition]:
        if self.app is None or self.app.batch_consumer is None:
            return set()
        thread = self.app.batch_consumer._thread
        return {TopicPartition(tp.topic, tp.partition) for tp in thread.assignment_or_none()}

    async def deliver(self, batch: Batch) -> None:
        """What the group's agent calls, in the place of streams.delivery.Delivery."""
        if self._handle is not None:
            await self._handle(batch)
            return
        self._go_on.clear()
        self._settled = False
        self._handed.put_nowait(batch)
        await self._go_on.wait()
        error, self._raise = self._raise, None
        if error is not None:
            raise error
        if not self._settled:
            batch.consumer.rewind(batch)

    def fail(self, error: BaseException) -> None:
        """The handler that holds a batch raises."""
        self._raise = error
        self._go_on.set()

    async def next(self) -> Batch:
        """The batch that is handed over next; the handler holds it."""
        return await asyncio.wait_for(self._handed.get(), HANG_S)

    @property
    def waiting(self) -> int:
        """Batches that were handed over and not taken by the test."""
        return self._handed.qsize()

    def finish(self, batch: Batch) -> None:
        """Commit the batch and let the handler return."""
        assert self.positions.move(batch)
        batch.consumer.finish(batch)
        self._settled = True
        self._go_on.set()

    def rewind(self, batch: Batch, partitions: list[TopicPartition] | None = None) -> None:
        assert isinstance(batch.consumer, BatchConsumer)
        batch.consumer.rewind(batch, partitions)
        self._settled = True
        self._go_on.set()

    def give_up(self) -> None:
        """The handler lets go of the batch it holds, as Delivery does when it is not live any more."""
        self._go_on.set()

    async def collect(self, count: int) -> list[Batch]:
        """Take and finish batches until they hold so many records."""
        batches: list[Batch] = []
        found = 0
        while found < count:
            batch = await self.next()
            self.finish(batch)
            batches.append(batch)
            found += batch.count
        return batches


class Broker:
    """What tests do to the broker besides consuming."""

    def __init__(self, settings: Settings, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self.admin = admin
        self.producer = producer

    async def topic(self, partitions: int = 1, **configs: str) -> str:
        """A new topic, once its partitions have leaders."""
        name = f"{self._settings.topic_prefix}.topic-{next(_names)}"
        await self.make(name, partitions, **configs)
        return name

    async def make(self, name: str, partitions: int, **configs: str) -> None:
        """Make the topic of that name; it may take a moment until an old one of that name is gone."""
        made = NewTopic(
            name, partitions, 1, topic_configs={key.replace("_", "."): value for key, value in configs.items()}
        )

        async def there() -> bool:
            await self.admin.create_topics([made])
            (found,) = await self.admin.describe_topics([name])
            return bool(
                found["error_code"] == 0
                and len(found["partitions"]) == partitions
                and all(partition["leader"] >= 0 for partition in found["partitions"])
            )

        await until(there)

    async def remake(self, name: str, partitions: int) -> None:
        """Delete the topic and make another of its name, which begins when nobody sees the old one any more."""
        await self.admin.delete_topics([name])
        await until(lambda: self.gone(name))
        await self.make(name, partitions)

    async def gone(self, name: str) -> bool:
        """True when the broker knows no topic of that name."""
        (found,) = await self.admin.describe_topics([name])
        return bool(found["error_code"])

    async def produce(
        self, topic: str, values: Iterable[bytes], partition: int = 0, producer: AIOKafkaProducer | None = None
    ) -> None:
        """Values as records of one partition, in order, acknowledged."""
        sending = producer or self.producer
        futures = deque([await sending.send(topic, value, partition=partition) for value in values])
        await sending.flush()
        for future in futures:
            await future


@contextlib.asynccontextmanager
async def open_broker(settings: Settings) -> AsyncIterator[Broker]:
    """The broker of `settings` with a client of each kind, closed afterwards."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
    await admin.start()
    try:
        async with AIOKafkaProducer(
            bootstrap_servers=settings.kafka_url, acks="all", enable_idempotence=True, max_request_size=8 << 20
        ) as producer:
            yield Broker(settings, admin, producer)
    finally:
        await admin.close()


async def until(condition: Callable[[], Any]) -> Any:
    """The first truthy value of `condition` (a function or a coroutine function); HANG_S bounds a hang."""
    async with asyncio.timeout(HANG_S):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)


def records(batches: Iterable[Batch], key: TopicPartition) -> list[ConsumerRecord]:
    return [record for batch in batches for record in batch.records.get(key, ())]


def numbers(batches: Iterable[Batch], key: TopicPartition) -> list[int]:
    """The values of a partition's records, each a number and padding."""
    return [int(record.value.split(b" ")[0]) for record in records(batches, key)]


def contiguous(batches: Iterable[Batch], begin: int = 0) -> dict[TopicPartition, int]:
    """Checks that the spans of each partition follow each other and hold their records; returns where they end."""
    ends: dict[TopicPartition, int] = {}
    for batch in batches:
        assert batch.count == sum(len(found) for found in batch.records.values())
        assert batch.records.keys() <= batch.spans.keys()
        for key, span in batch.spans.items():
            assert span.begin == ends.get(key, begin)
            assert span.end > span.begin
            ends[key] = span.end
            offsets = [record.offset for record in batch.records.get(key, ())]
            assert offsets == sorted(set(offsets))
            assert all(span.begin <= offset < span.end for offset in offsets)
    return ends


def padded(first: int, last: int, size: int = 0) -> list[bytes]:
    """Values that `numbers` reads."""
    return [b"%d " % number + b"x" * size for number in range(first, last)]


def keys(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(count)]


async def committed(broker: Broker, group: str) -> dict[TopicPartition, int]:
    """What Kafka itself was told of the group."""
    offsets = await broker.admin.list_consumer_group_offsets(group)
    return {key: found.offset for key, found in offsets.items() if found.offset >= 0}
