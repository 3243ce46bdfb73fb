"""A commands' log that lost its end: what docs/operators.md says to do, done; then writes go on as if nothing was."""

import asyncio
import itertools
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2
from aiokafka.structs import ConsumerRecord

from embedded.stack import Stack
from streams.publish import Order
from tests.flows.counts import counted
from tests.flows.harness import ROOT, Process, System, until

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


async def _dead_letters(installation: System, *arguments: str) -> str:
    """What the operator's command prints; it has to succeed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "dead-letters", *arguments,
        env=installation.settings.environ(), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def _settled(installation: System, count: int) -> int:
    """Each of the writes done once, published, and counted once by the shipped reader; returns repeats dropped."""
    await installation.until_done(count, 60)
    repeats = await installation.check_created(count)
    assert await counted(installation, "resource.created") == count
    return repeats


async def _another_owner(installation: System, worker: Process, handled: int, published: int) -> None:
    """Kill the worker as if between what it published and the word about it; the next one knows from the row alone."""
    await worker.kill()
    status = await installation.stores.database.execute(
        """UPDATE progress SET published_offset = $4
           WHERE consumer_group = $1 AND partition = $2 AND next_offset = $3 AND published_offset = $3""",
        f"{installation.settings.topic_prefix}.resources",
        PARTITION,
        handled,
        published,
    )
    assert status == "UPDATE 1"
    await worker.start()


async def test_writes_go_on_after_the_operators_mend(installation: System, stack: Stack) -> None:
    topic, group = _commands(installation), f"{installation.settings.topic_prefix}.resources"
    orders = _orders(installation)
    worker = installation.worker()
    await worker.start()
    for count in range(1, 7):
        await installation.send([next(orders)])
        await installation.until_done(count, 30)
    await _settled(installation, 6)

    await _lose_end(installation, stack, 3)
    reason = "records were lost: the log ends at 3, this group has handled everything below 6"
    expected = f"{group} {topic} {PARTITION} at 6: {reason}\n"

    async def stopped() -> bool:
        return await _dead_letters(installation, "stopped") == expected

    await until(stopped, 60, f"the partition is stopped; see {worker.log}")
    await _another_owner(installation, worker, 6, published=5)
    # The front is the same one as before.
    await installation.send([next(orders) for _ in range(2)])
    printed = await _dead_letters(installation, "resume", group, topic, str(PARTITION), "3")
    assert "within a few seconds" in printed
    assert await _settled(installation, 8) == 1
    assert await _dead_letters(installation, "stopped") == "no partition is stopped\n"

    # Beyond where the log ended before, one batch each; then an owner that publishes what nobody confirmed.
    for count in range(9, 13):
        await installation.send([next(orders)])
        await installation.until_done(count, 30)
    await _settled(installation, 12)
    await _another_owner(installation, worker, 9, published=4)
    await installation.send([next(orders)])
    assert await _settled(installation, 13) == 1 + 5
