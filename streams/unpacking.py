"""Records out of what aiokafka has fetched, at half of what they cost there.

Its own way makes a dataclass of eleven fields for each record, which the garbage collector follows, through two Python
frames a record. Everything that decides which records there are (aborted transactions, control batches, compaction,
checksums) stays aiokafka's. Private attributes of aiokafka 0.14.0 are used; see streams.consumer.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
from aiokafka import TopicPartition


class Record(msgspec.Struct, gc=False):
    """What aiokafka.structs.ConsumerRecord has, under the same names."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: Sequence[tuple[str, bytes]]


def take(result: Any, most: int) -> list[Any]:
    """Up to `most` records of a FetchResult, which moves its position behind them: FetchResult.getall.

    Raises what the parser says of bytes that it can't take apart; the position is where it was then.
    """
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    unpacked = result._partition_records
    unpacked._consumer_record = _record
    taken = list(islice(unpacked._records_iterator, most))
    result._update_position()
    if len(taken) < most:
        unpacked._records_iterator = None  # as aiokafka does: they hold each other
        result._partition_records = None
    return taken


def _record(partition: TopicPartition, record: Any) -> Record:
    key, value, headers = record.key, record.value, record.headers
    return Record(
        partition.topic,
        partition.partition,
        record.offset,
        record.timestamp,
        record.timestamp_type,
        key,
        value,
        record.checksum,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        tuple(headers) if headers else (),
    )
