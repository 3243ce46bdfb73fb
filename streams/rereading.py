"""Reading the log once more, outside of any consumer group: from where a group of ours stands up to given ends.

The records go the way of every batch (streams/delivery.py): the same repeats, the same fence, the same halving. What is
different is who drives: nobody joins a consumer group, so nothing is read beyond the ends, and the position is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import ConsumerRecord

from streams.batches import Batch, Pace, Span
from streams.decoding import Decoder
from streams.delivery import Delivery
from streams.groups import Connections
from streams.progress import Progress
from streams.protocol import topic_info
from streams.readers import Reader
from streams.recent import LookBack, read
from streams.repeats import fresh
from streams.work import Work
from topics import Topic

MOST_RECORDS = 5000
"""Records of a batch."""


class Unfinished(Exception):
    """A partition can't be read to its end; the message says why."""


class Log:
    """Some of our topics, as the broker has them. Use it as a context manager."""

    def __init__(self, connections: Connections, read: Sequence[Topic]) -> None:
        self.topics = {topic.full_name(connections.settings.topic_prefix): topic for topic in read}
        self._store = connections.progress
        self.ids: dict[TopicPartition, UUID] = {}
        """Every partition, with the id of its topic in Kafka."""
        self.kafka: Any = AIOKafkaConsumer(
            bootstrap_servers=connections.settings.kafka_url.split(","),
            client_id="yeoul-rereading",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 << 20,
            isolation_level="read_committed",
        )

    async def __aenter__(self) -> Self:
        """Raises KafkaError, Unfinished."""
        try:
            async with asyncio.timeout(10.0):
                await self.kafka.start()
            await self.look()
        except (OSError, TimeoutError) as error:
            await self.kafka.stop()
            raise KafkaConnectionError(str(error) or "no answer within 10 s") from None
        except BaseException:
            await self.kafka.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kafka.stop()

    async def look(self) -> None:
        """Ask for the topics anew. Raises KafkaError, Unfinished."""
        infos = await topic_info(self.kafka._client, list(self.topics))
        absent = [name for name, info in infos.items() if info.id is None]
        if absent:
            raise Unfinished(f"there is no topic {', '.join(absent)}; ./yeoul topics makes it")
        self.ids = {
            TopicPartition(name, number): info.id
            for name, info in infos.items()
            if info.id is not None
            for number in range(info.partitions)
        }

    async def first(self) -> dict[TopicPartition, int]:
        """The first offset that each partition has. Raises KafkaError."""
        found: dict[TopicPartition, int] = await self.kafka.beginning_offsets(list(self.ids))
        return found

    async def ends(self) -> dict[TopicPartition, int]:
        """The offset that each partition's next record will have. Raises KafkaError."""
        found: dict[TopicPartition, int] = await self.kafka.end_offsets(list(self.ids))
        return found

    async def from_time(self, milliseconds: int) -> dict[TopicPartition, tuple[int, int] | None]:
        """The first record (offset, timestamp) from this time on of each partition, None if it has none.

        Raises KafkaError.
        """
        found = await self.kafka.offsets_for_times(dict.fromkeys(self.ids, milliseconds))
        return {key: None if (at := found.get(key)) is None else (at.offset, at.timestamp) for key in self.ids}

    async def stand(self, group: str, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Where a group stands; in a partition where it has no row it begins at this offset from now on.

        Raises StoresAway.
        """
        found: dict[TopicPartition, int] = {}
        for name in self.topics:
            keys = [key for key in self.ids if key.topic == name]
            topic_id, numbers = self.ids[keys[0]], [key.partition for key in keys]
            there = await self._store.standings(group, topic_id, numbers)
            missing = [key for key in keys if key.partition not in there]
            if missing:
                await self._store.life(name, topic_id)
                for key in missing:
                    await self._store.begin(group, name, topic_id, key.partition, offsets[key], publishes=False)
                there = await self._store.standings(group, topic_id, numbers)
            found |= {key: there[key.partition].next_offset for key in keys}
        return found


class Rereading:
    """A reader of a log, under the name of a group of its own."""

    def __init__(self, connections: Connections, full_name: str, log: Log, handler: Reader) -> None:
        self._log = log
        look_back = LookBack(connections.settings.kafka_url, full_name, handler.decode, connections.dead_letters)
        self._progress = Progress(
            full_name, log.topics, connections.progress, look_back=look_back, prepare=handler.prepare
        )
        self._delivery = Delivery(full_name, handler, self._progress, connections.dead_letters)
        self._decoder = Decoder(full_name, handler)
        self._again = False
        # What Delivery asks of who takes batches (streams.batches.Taking).
        self.pace = Pace(MOST_RECORDS)
        self.generation = 0
        self.letting_go = False
        self.backing_off = ""
        self.progressed_at = monotonic()

    async def locate(self) -> None:
        """Look up where this reader stands. Raises StoresAway, KafkaError, Unfinished."""
        self._again = False
        self._progress.let_go()
        keys = list(self._log.ids)
        found = await self._progress.locate(self._log.kafka, keys)
        lost = sorted(set(keys) - found.keys())
        if lost:
            raise Unfinished(
                f"{', '.join(f'{key.topic}/{key.partition}' for key in lost)} can't be read further: see"
                f" ./yeoul dead-letters stopped; or begin anew (--anew)"
            )

    def position(self, key: TopicPartition) -> int:
        """The next offset to handle."""
        return self._progress.owned[key].next_offset

    def left(self, ends: Mapping[TopicPartition, int]) -> int:
        """Records (about) from here to the ends."""
        return sum(max(0, end - self.position(key)) for key, end in ends.items())

    async def up_to(self, ends: Mapping[TopicPartition, int], told: Callable[[int], None]) -> None:
        """Handle and commit everything below the ends; `told` gets the records of each batch, about.

        Raises StoresAway, KafkaError, Unfinished.
        """
        while behind := [key for key, end in ends.items() if self.position(key) < end]:
            for key in behind:
                await self._one(key, ends[key], told)
                if self._again:
                    await self.locate()
                    break

    async def _one(self, key: TopicPartition, end: int, told: Callable[[int], None]) -> None:
        async for records, position in read(self._log.kafka, key, self.position(key), end, self.pace.records):
            begin = self.position(key)
            await self._delivery.deliver(self._batch({key: (records, position)}))
            if self._again:
                return
            told(position - begin)

    async def rest(self, ends: Mapping[TopicPartition, int], most_bytes: int) -> Work | None:
        """What is left below the ends, decoded and without repeats, for the caller to commit; None if it is larger.

        Raises KafkaError.
        """
        size = 0
        found: dict[TopicPartition, tuple[list[ConsumerRecord], int]] = {}
        for key, end in ends.items():
            gathered: list[ConsumerRecord] = []
            if self.position(key) < end:
                async for records, _ in read(self._log.kafka, key, self.position(key), end, MOST_RECORDS):
                    gathered += records
                    size += sum(len(record.value or b"") for record in records)
                    if size > most_bytes:
                        return None
                found[key] = (gathered, end)
        return fresh(self._decoder.work(self._batch(found), self._progress.owned))

    def owned(self, key: TopicPartition) -> Any:
        """What is known of a partition (streams.progress.Owned); None of one that is not read."""
        return self._progress.owned.get(key)

    def _batch(self, read: Mapping[TopicPartition, tuple[list[ConsumerRecord], int]]) -> Batch:
        batch = Batch(self, self.generation)
        for key, (records, end) in read.items():
            batch.records[key] = records
            batch.spans[key] = Span(self.position(key), end)
            batch.count += len(records)
        return batch

    # -- what Delivery calls -----------------------------------------------------------------------------------------

    def finish(self, batch: Batch) -> None:
        """It is committed."""

    def rewind(self, batch: Batch) -> None:
        """Somebody else moved a partition, or it was stopped: look the positions up again."""
        self._again = True
