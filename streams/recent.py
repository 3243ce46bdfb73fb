"""Repeats of anybody's events: an equal (source, id) sighted among the last 50,000 records of the partition.

A sighting is an event that was handled, or was itself a repeat; not one that was parked, until it is replayed.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaConnectionError, KafkaError, UnsupportedCodecError
from aiokafka.structs import ConsumerRecord

from stores.dead_letters import DeadLetters
from streams.protocol import end_of_broken

REACH = 50_000
"""How many records back a repeat is recognised."""
MOST = 5000
"""Records that are read back at a time."""
LONGEST_KEPT = 64
"""Characters of a source or an id that is remembered as it is; of a longer one its digest is."""
STALLED_S = 30.0
"""A broker that gives nothing of what it has for so long is away, seconds."""
UNPARSABLE = (CorruptRecordException, UnsupportedCodecError)
"""Errors of Kafka's client that are about the bytes of a record batch, not about the broker."""


Kept = str | bytes
"""A source or an id as it is remembered: text of 64 characters at most, or the 16 bytes of a digest."""
Staged = dict[str, dict[str, int]]
"""Offsets of what was sighted and is not committed yet, by source and id."""
_NOTHING: dict[Any, int] = {}


def _digest(text: str) -> Kept:
    """Strangers choose how long their names are, and 100,000 of them are remembered for each partition."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


class Recent:
    """What one partition has seen lately. Changed only by what was committed."""

    def __init__(self) -> None:
        self._offsets: dict[Kept, dict[Kept, int]] = {}
        self._count = 0
        self._swept_at = 0

    def sight_new(self, staged: Staged, found: Staged) -> bool:
        """Sight all of these at once if none of them was sighted before; else False, and none is.

        What is in `found` becomes part of `staged`. Nearly every batch is so, and to ask for each event costs as much
        as to decode it.
        """
        for source, ids in found.items():
            if len(source) > LONGEST_KEPT or max(map(len, ids)) > LONGEST_KEPT:
                return False
            known = (self._offsets.get(source, _NOTHING), staged.get(source, _NOTHING))
            if not all(before.keys().isdisjoint(ids) for before in known):
                return False
        for source, ids in found.items():
            before = staged.setdefault(source, ids)
            if before is not ids:
                before.update(ids)
        return True

    def sight(self, staged: Staged, source: str, id: str, offset: int) -> bool:
        """True if an equal event was sighted at a lower offset within reach, here or in `staged`.

        A sighting itself, it is noted in `staged`, for `remember` once it is committed.
        """
        of_source = staged.get(source)
        if of_source is None:
            of_source = staged[source] = {}
        there = of_source.get(id)
        if there is None:
            kept = self._offsets.get(source if len(source) <= LONGEST_KEPT else _digest(source), {})
            there = kept.get(id if len(id) <= LONGEST_KEPT else _digest(id))
        of_source[id] = offset
        return there is not None and there < offset <= there + REACH

    def remember_all(self, staged: Staged) -> None:
        """Note what was staged, once it is committed."""
        for source, ids in staged.items():
            if len(source) <= LONGEST_KEPT and max(map(len, ids)) <= LONGEST_KEPT:
                # These offsets are higher than any that was noted: a batch lies behind what was committed before it.
                kept = self._offsets.setdefault(source, {})
                before = len(kept)
                kept.update(ids)
                self._grown(len(kept) - before, max(ids.values()))
            else:
                for id, offset in ids.items():
                    self.remember(source, id, offset)

    def remember(self, source: str, id: str, offset: int) -> None:
        """Note an event; what is out of reach is forgotten now and then."""
        kept_source: Kept = source if len(source) <= LONGEST_KEPT else _digest(source)
        kept_id: Kept = id if len(id) <= LONGEST_KEPT else _digest(id)
        of_source = self._offsets.get(kept_source)
        if of_source is None:
            of_source = self._offsets[kept_source] = {}
        of_source[kept_id] = max(offset, of_source.get(kept_id, offset))
        self._grown(1, offset)

    def _grown(self, count: int, offset: int) -> None:
        self._count += count
        if self._count >= 2 * REACH and offset - self._swept_at > REACH:
            self._sweep(offset)

    def _sweep(self, offset: int) -> None:
        kept = {
            source: {id: there for id, there in ids.items() if there >= offset - REACH}
            for source, ids in self._offsets.items()
        }
        self._offsets = {source: ids for source, ids in kept.items() if ids}
        self._count = sum(len(ids) for ids in self._offsets.values())
        self._swept_at = offset


class LookBack:
    """Rebuilds what a partition has seen: every record that could be read, but for those that were parked.

    So a repeat that was dropped counts as seen, and a dead letter does once it was replayed; live it is the same. Only
    after a partition went back, what was parked in its life before counts as seen, too: it still can be replayed.
    """

    def __init__(
        self, bootstrap: str, group: str, decode: Callable[[ConsumerRecord], Any], letters: DeadLetters
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._decode = decode
        self._letters = letters

    async def read(self, partition: TopicPartition, topic_id: UUID, first: int, next_offset: int) -> Recent:
        """What was seen before `next_offset`, as far as the log still has it. Raises KafkaError, StoresAway."""
        recent = Recent()
        begin = max(first, next_offset - REACH)
        if begin >= next_offset:
            return recent
        parked = await self._letters.not_handled(self._group, topic_id, partition.partition, begin, next_offset)
        async for record in _records(self._bootstrap, partition, begin, next_offset):
            message = None
            if record.offset not in parked:
                with contextlib.suppress(Exception):  # it was parked then, whatever is in its way
                    message = self._decode(record)
            if message is not None:
                recent.remember(message.source, message.id, record.offset)
        return recent


async def _records(bootstrap: str, partition: TopicPartition, begin: int, end: int) -> AsyncIterator[ConsumerRecord]:
    """The records of these offsets as a group reads them; those that can't be taken apart are passed by."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        isolation_level="read_committed",
    )
    try:
        await consumer.start()
        async for records, _position in read(consumer, partition, begin, end, MOST):
            for record in records:
                yield record
    finally:
        await consumer.stop()


async def read(
    consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int, at_a_time: int
) -> AsyncIterator[tuple[list[ConsumerRecord], int]]:
    """The records from `begin` to `end` (excluded) in lists, each with the position behind it; the last one is `end`.

    Takes the consumer for itself meanwhile. What can't be taken apart is passed by. Raises KafkaError.
    """
    most = at_a_time
    consumer.assign([partition])
    consumer.seek(partition, begin)
    moved, moved_at = begin, monotonic()
    while (position := await consumer.position(partition)) < end:
        if position != moved:
            moved, moved_at = position, monotonic()
        elif monotonic() - moved_at > STALLED_S:
            raise KafkaConnectionError(f"nothing came of {partition.topic}/{partition.partition} for {STALLED_S:.0f} s")
        try:
            polled = await consumer.getmany(partition, timeout_ms=1000, max_records=most)
        except Exception as error:  # whatever the parser says of bytes that it can't take apart
            if isinstance(error, KafkaError) and not isinstance(error, UNPARSABLE):
                raise
            if most > 1:
                # What it had taken apart before them is lost with them: again, one by one up to there.
                most = 1
                consumer.seek(partition, position)
                continue
            behind = await end_of_broken(consumer._client, partition, position)
            if behind is None:
                raise KafkaError(f"{partition.topic}/{partition.partition}@{position}: {error}") from error
            most = at_a_time
            consumer.seek(partition, behind)
            continue
        records = polled.get(partition, [])
        if records and records[-1].offset >= end:
            records = [record for record in records if record.offset < end]
        yield records, min(end, await consumer.position(partition))
