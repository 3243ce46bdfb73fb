"""Repeats of anybody's events: an equal (source, id) among the last 50,000 records of the partition."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, UnsupportedCodecError

from streams.envelope import Unreadable, read_foreign
from streams.protocol import end_of_broken

REACH = 50_000
"""How many records back a repeat is recognised."""
MOST = 5000
"""Records that are read back at a time."""
UNPARSABLE = (CorruptRecordException, UnsupportedCodecError)
"""Errors of Kafka's client that are about the bytes of a record batch, not about the broker."""


class Recent:
    """What one partition has seen lately. Changed only by what was committed."""

    def __init__(self) -> None:
        self._offsets: dict[str, dict[str, int]] = {}
        self._count = 0
        self._swept_at = 0

    def seen(self, source: str, id: str, offset: int) -> bool:
        """True if an equal event stands at a lower offset within reach."""
        of_source = self._offsets.get(source)
        if of_source is None:
            return False
        there = of_source.get(id)
        return there is not None and there < offset <= there + REACH

    def remember(self, source: str, id: str, offset: int) -> None:
        """Note an event; what is out of reach is forgotten now and then."""
        of_source = self._offsets.get(source)
        if of_source is None:
            of_source = self._offsets[source] = {}
        of_source[id] = offset
        self._count += 1
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


async def read_back(bootstrap: str, partition: TopicPartition, first: int, next_offset: int) -> Recent:
    """What was seen before `next_offset`, read again from the log.

    Records that can't be taken apart were never handled, and are passed by. Raises KafkaError.
    """
    recent = Recent()
    begin = max(first, next_offset - REACH)
    if begin >= next_offset:
        return recent
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap.split(","), auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    most = MOST
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, begin)
        while (position := await consumer.position(partition)) < next_offset:
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
                end = await end_of_broken(consumer._client, partition, position)
                if end is None:
                    raise KafkaError(f"{partition.topic}/{partition.partition}@{position}: {error}") from error
                most = MOST
                consumer.seek(partition, end)
                continue
            for record in polled.get(partition, ()):
                if record.offset < next_offset:
                    try:
                        event = read_foreign(record)
                    except Unreadable:
                        continue
                    recent.remember(event.source, event.id, record.offset)
    finally:
        await consumer.stop()
    return recent
