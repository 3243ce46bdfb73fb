"""Batches and buffers are bounded, whatever waits on the broker, and no partition starves another."""

from pathlib import Path

import pytest

from config import Settings
from streams.batches import Pace
from tests.contracts.harness import (
    Broker,
    Member,
    Positions,
    keys,
    numbers,
    padded,
)


async def test_a_batch_is_bounded_by_count_and_a_full_partition_starves_nobody(
    settings: Settings, broker: Broker
) -> None:
    topic = await broker.topic(3)
    flood, *others = keys(topic, 3)
    await broker.produce(topic, padded(0, 50_000))
    for key in others:
        await broker.produce(topic, padded(0, 10), key.partition)
    async with Member(settings, "fair", [topic], Positions(), read_ahead=True) as member:
        batches = await member.collect(50_020)
        assert max(batch.count for batch in batches) <= member.consumer.pace.records == 5000
    for key in others:
        assert numbers(batches[:2], key) == list(range(10))
    assert numbers(batches, flood) == list(range(50_000))


def test_batches_grow_while_they_are_quick_and_shrink_when_they_are_not() -> None:
    pace = Pace(50_000)
    assert pace.records == 5000
    grown = []
    for _ in range(5):
        pace.took(pace.records, pace.records * 4e-6)
        grown.append(pace.records)
    assert grown == [10_000, 20_000, 40_000, 50_000, 50_000]
    pace.took(1000, 0.4)  # far from full: what one record costs alone says nothing of a full batch
    assert pace.records == 50_000
    pace.took(20_000, 1.0)  # half full, and too slow all the same
    assert pace.records == 10_000
    pace.took(10_000, 10.0)
    assert pace.records == 5000
    pace.took(5000, 0.0)
    assert pace.records == 10_000
    assert Pace(10).records == 10


async def test_two_full_partitions_share_each_batch(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        await broker.produce(topic, padded(0, 20_000), partition)
    async with Member(settings, "share", [topic], Positions(), read_ahead=True) as member:
        batches = await member.collect(40_000)
    for key in keys(topic, 2):
        assert numbers(batches, key) == list(range(20_000))
        counts = [len(batch.records.get(key, ())) for batch in batches if batch.count == 5000]
        # Until one of them is at its end, no batch is one partition's alone.
        assert all(count > 0 for count in counts[: len(counts) // 2])


async def test_a_batch_is_bounded_by_bytes(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(6)
    size, bound = 100_000, 1 << 20
    for partition in range(6):
        await broker.produce(topic, padded(0, 40, size), partition)
    async with Member(settings, "bytes-bound", [topic], Positions(), read_ahead=True, batch_bytes=bound) as member:
        batches = await member.collect(240)
    sizes = [sum(len(record.value) for found in batch.records.values() for record in found) for batch in batches]
    # The bound, and what one partition's part of a fetch (consumer_max_fetch_size) may go beyond it.
    assert max(sizes) <= bound + (4 << 20)
    assert len(batches) >= 5
    for key in keys(topic, 6):
        assert numbers(batches, key) == list(range(40))


async def test_a_record_larger_than_every_bound_still_passes(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(1, max_message_bytes=str(8 << 20))
    (key,) = keys(topic, 1)
    await broker.produce(topic, [b"0 ", b"1 " + b"x" * (6 << 20), b"2 "])
    async with Member(settings, "large", [topic], Positions(), batch_bytes=1 << 16) as member:
        batches = await member.collect(3)
    assert numbers(batches, key) == [0, 1, 2]


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("megabytes", [200, pytest.param(1000, marks=pytest.mark.full)])
async def test_memory_stays_flat_while_a_handler_does_not_finish(
    settings: Settings, broker: Broker, read_ahead: bool, megabytes: int
) -> None:
    topic = await broker.topic(2, max_message_bytes=str(8 << 20))
    padding = b"x" * 500_000

    async def produce(first: int, last: int) -> None:
        for start in range(first, last, 8):
            values = [b"%d " % number + padding for number in range(start, min(start + 8, last))]
            await broker.produce(topic, values, start // 8 % 2)

    count = megabytes * 2
    group = f"flat-{read_ahead}-{megabytes}".lower()
    async with Member(settings, group, [topic], Positions(), read_ahead=read_ahead) as member:
        await produce(0, 64)
        held = await member.next()
        before = resident()
        await produce(64, count)
        grown = resident() - before
        found = held.count
        member.finish(held)
        while found < count:
            batch = await member.next()
            member.finish(batch)
            found += batch.count
        assert found == count
        after = resident() - before
    # At most what was fetched and not handed over: a batch polled ahead, and a fetch of each partition.
    assert grown < 64 << 20
    assert after < 256 << 20
