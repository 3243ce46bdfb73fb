"""Where a group stands, in memory: loaded at assignment and after every mismatch, changed only by commits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Literal
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stores.progress import ProgressStore, Standing
from streams.protocol import topic_info
from streams.recent import LookBack, Recent
from telemetry import metrics
from topics import Repeats, Topic

log = logging.getLogger("yeoul.streams.progress")

LIVES_EVERY_S = 2.0
"""How often the ids of the topics are compared, seconds: a topic that was made anew begins a new life."""


class Owned:
    """A partition that is ours: which life of it, where it stands, and what it has seen. `topic_id`: of its row."""

    __slots__ = ("life", "next_offset", "recent", "sequence", "topic", "topic_id")

    def __init__(self, topic: Topic, topic_id: UUID, life: int, next_offset: int, sequence: str) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.life = life
        self.next_offset = next_offset
        self.sequence = sequence
        self.recent: Recent | None = None


class Progress:
    """The positions of one group. `topics`: by full name. `look_back`: for topics whose repeats are known by it."""

    def __init__(
        self,
        group: str,
        topics: Mapping[str, Topic],
        store: ProgressStore,
        *,
        look_back: LookBack | None = None,
        start: Literal["beginning", "end"] = "beginning",
        take_over: Callable[[int, UUID], Awaitable[None]] | None = None,
        release: Callable[[], None] = lambda: None,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.group = group
        self.owned: dict[TopicPartition, Owned] = {}
        self._topics = topics
        self._store = store
        self._look_back = look_back
        self._start = start
        self._take_over = take_over
        self._release = release
        self._prepare = prepare
        self._ids: dict[str, UUID] = {}
        self._lives_seen = monotonic()
        self.stopped: set[TopicPartition] = set()

    async def locate(self, kafka: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset of each partition; one left out is stopped. Raises StoresAway, KafkaError."""
        if self._prepare is not None:
            await self._prepare()
        found: dict[TopicPartition, int] = {}
        by_topic: dict[str, list[int]] = {}
        for partition in partitions:
            by_topic.setdefault(partition.topic, []).append(partition.partition)
        ids = await self._topic_ids(kafka, list(by_topic))
        for name, numbers in by_topic.items():
            keys = [TopicPartition(name, number) for number in numbers]
            # In this order: an owner that still goes on moves away from the beginning and towards the end, so what it
            # does between two of these questions is never taken for a loss.
            first = await kafka.beginning_offsets(keys)
            standings = await self._standings(kafka, ids[name], first)
            end = await kafka.end_offsets(keys)
            for key in keys:
                standing = standings[key.partition]
                reason = standing.stopped or _lost(standing.next_offset, first[key], end[key])
                if reason is not None:
                    await self._stop(standing.topic_id, key, reason, already=standing.stopped is not None)
                    continue
                if self._take_over is not None:
                    await self._take_over(key.partition, standing.topic_id)
                owned = Owned(
                    self._topics[name], standing.topic_id, standing.life, standing.next_offset, standing.sequence
                )
                if owned.topic.repeats is Repeats.RECENT and self._look_back is not None:
                    owned.recent = await self._look_back.read(key, owned.topic_id, first[key], owned.next_offset)
                self.owned[key] = owned
                self.stopped.discard(key)
                found[key] = standing.next_offset
        return found

    async def _standings(
        self, kafka: AIOKafkaConsumer, topic_id: UUID, first: Mapping[TopicPartition, int]
    ) -> dict[int, Standing]:
        """The rows of a topic's partitions; those that are missing are made."""
        numbers = [key.partition for key in first]
        standings = await self._store.standings(self.group, topic_id, numbers)
        missing = [key for key in first if key.partition not in standings]
        if not missing:
            return standings
        name = missing[0].topic
        life = await self._store.life(name, topic_id)
        if life > 0:
            log.warning("%s: topic %s was made anew (life %d); it is read from its beginning", self.group, name, life)
        begin = first if self._start == "beginning" or life > 0 else await kafka.end_offsets(missing)
        for key in missing:
            await self._store.begin(
                self.group, name, topic_id, key.partition, begin[key], publishes=self._take_over is not None
            )
        return await self._store.standings(self.group, topic_id, numbers)

    async def _stop(self, topic_id: UUID, key: TopicPartition, reason: str, *, already: bool) -> None:
        self.owned.pop(key, None)
        self.stopped.add(key)
        metrics.STOPPED_PARTITIONS.labels(self.group).inc(0 if already else 1)
        log.error(
            "%s does not read %s/%d: %s. To go on: ./yeoul dead-letters resume %s %s %d OFFSET",
            self.group, key.topic, key.partition, reason, self.group, key.topic, key.partition,
        )  # fmt: skip
        if not already:
            await self._store.stop(self.group, topic_id, key.partition, reason)

    async def stop_partition(self, key: TopicPartition, reason: str) -> None:
        """Stop reading a partition until an operator says so. Raises StoresAway."""
        owned = self.owned.get(key)
        if owned is not None:
            await self._stop(owned.topic_id, key, reason, already=False)

    async def _topic_ids(self, kafka: AIOKafkaConsumer, names: list[str]) -> dict[str, UUID]:
        infos = await topic_info(kafka._client, names)
        ids: dict[str, UUID] = {}
        for name, info in infos.items():
            if info.id is None:
                raise KafkaError(f"topic {name} does not exist; ./yeoul topics makes it")
            wanted = self._topics[name].partitions
            if info.partitions != wanted:
                raise KafkaError(
                    f"topic {name} has {info.partitions} partitions and must have {wanted}: see docs/operators.md"
                )
            ids[name] = info.id
        self._ids.update(ids)
        return ids

    async def outdated(self, kafka: AIOKafkaConsumer) -> list[TopicPartition]:
        """Partitions of topics whose id is another one by now, and those that an operator let go on.

        Asked every LIVES_EVERY_S. Raises StoresAway, KafkaError.
        """
        if monotonic() - self._lives_seen < LIVES_EVERY_S or not self._ids:
            return []
        self._lives_seen = monotonic()
        async with asyncio.timeout(2.0):
            infos = await topic_info(kafka._client, list(self._ids))
        anew = {name for name, info in infos.items() if info.id is not None and info.id != self._ids[name]}
        outdated = [key for key in (*self.owned, *self.stopped) if key.topic in anew]
        for key in list(self.stopped):
            standings = await self._store.standings(self.group, self._ids[key.topic], [key.partition])
            if key.partition not in standings or standings[key.partition].stopped is None:
                self.stopped.discard(key)
                outdated.append(key)
        return outdated

    def let_go(self) -> None:
        """The partitions may be somebody else's from now on; what is ours is located again."""
        self.owned.clear()
        self._release()


def _lost(next_offset: int, first: int, end: int) -> str | None:
    if end < next_offset:
        return f"records were lost: the log ends at {end}, this group has handled everything below {next_offset}"
    if next_offset < first:
        return f"records were lost: the log begins at {first}, this group still needs {next_offset}"
    return None
