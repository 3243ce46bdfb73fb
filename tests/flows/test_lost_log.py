"""A log of commands that lost its end."""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2
from aiokafka.structs import ConsumerRecord

from embedded.stack import Stack
from streams.publish import Order
from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTITION = 2


def _orders(installation: System) -> Iterator[Order]:
    """Commands that create resources of one partition."""
    for number in itertools.count():
        order = installation.create(number)
        if (murmur2(str(order.aggregate_id).encode()) & 0x7FFFFFFF) % 4 == PARTITION:
            yield order


def _cut(log: Path, end: int) -> None:
    """Take everything from the offset `end` on away from a partition, as a disk does that was set back."""
    (segment,) = log.glob("*.log")
    kept = segment.read_bytes()
    place = 0
    while place < len(kept):  # a record batch begins with its base offset, and the length of what follows
        offset, length = struct.unpack_from(">qi", kept, place)
        if offset >= end:
            break
        place += 12 + length
    segment.write_bytes(kept[:place])


def _commands(installation: System) -> str:
    return f"{installation.settings.topic_prefix}.commands.resources"


async def _lose_end(installation: System, stack: Stack, end: int) -> None:
    """The broker comes back without what stood from `end` on; this process's front finds it again."""
    await stack.stop("kafka")
    try:
        _cut(stack.state.folder / "kafka" / "data" / f"{_commands(installation)}-{PARTITION}", end)
    finally:
        await stack.start("kafka")

    async def reached() -> bool:
        return installation.commands.ready() == "ok"

    await until(reached, 30, "the front finds the broker")


async def test_a_front_goes_on_in_a_log_that_lost_its_end(installation: System, stack: Stack) -> None:
    orders = _orders(installation)
    for _ in range(6):
        await installation.send([next(orders)])
    await _lose_end(installation, stack, 3)
    sent = [next(orders) for _ in range(4)]
    await installation.send(sent[:2])
    await installation.send(sent[2:])
    partition = TopicPartition(_commands(installation), PARTITION)
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka_url, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, 3)
        there: list[ConsumerRecord] = []

        async def all_there() -> bool:
            there.extend((await consumer.getmany(timeout_ms=200)).get(partition, ()))
            return len(there) >= len(sent)

        await until(all_there, 30, "what was sent after the loss is in the log")
    finally:
        await consumer.stop()
    assert [record.key for record in there] == [str(order.aggregate_id).encode() for order in sent]
