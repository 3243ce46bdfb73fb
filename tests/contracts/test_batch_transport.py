"""The batch transport against a real broker: what a handler is given, and when."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from config import Settings
from streams.in_loop import IDLE_POLL_S
from tests.contracts.harness import (
    Broker,
    Member,
    Positions,
    contiguous,
    keys,
    numbers,
    padded,
    records,
    until,
)


@pytest.mark.parametrize("read_ahead", [False, True])
async def test_records_are_complete_and_in_order_over_many_batches(
    settings: Settings, broker: Broker, read_ahead: bool
) -> None:
    topic = await broker.topic(3)
    for partition in range(3):
        await broker.produce(topic, padded(0, 7000 + partition), partition)
    group = f"whole-{read_ahead}".lower()
    async with Member(settings, group, [topic], Positions(), read_ahead=read_ahead) as member:
        batches = await member.collect(21003)
    assert contiguous(batches) == {key: 7000 + key.partition for key in keys(topic, 3)}
    for key in keys(topic, 3):
        assert numbers(batches, key) == list(range(7000 + key.partition))
    assert len(batches) > 3


async def test_one_event_is_one_poll_of_all_partitions(settings: Settings, broker: Broker) -> None:
    first, second = await broker.topic(2), await broker.topic(1)
    all_keys = [*keys(first, 2), *keys(second, 1)]
    async with Member(settings, "merged", [first, second], Positions()) as member:
        await until(lambda: len(member.assigned) == 3)
        # After this time aiokafka fetches other partitions though a record was not taken yet; a slow machine takes it
        # later than the usual 0.1 s, and the fetch would come back with the first of what is produced below.
        member.consumer._thread.kafka._fetcher._prefetch_backoff = 60.0
        await broker.produce(first, padded(0, 1))
        held = await member.next()
        for key in all_keys:
            await broker.produce(key.topic, padded(10, 15), key.partition)
        member.finish(held)
        batch = await member.next()
        # The fetch that brings the first of them may end before the others arrived; the next one has the rest.
        rest = [batch]
        while sum(one.count for one in rest) < 15:
            member.finish(rest[-1])
            rest.append(await member.next())
        assert len(rest) == 1
        assert {key: len(found) for key, found in batch.records.items()} == dict.fromkeys(all_keys, 5)
        member.finish(batch)


async def test_it_is_driven_by_demand(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    async with Member(settings, "demand", [topic], Positions()) as member:
        for start in (0, 100, 200):
            await broker.produce(topic, padded(start, start + 1))
            held = await member.next()
            assert numbers([held], key) == [start]
            for number in range(start + 1, start + 100):
                await broker.produce(topic, padded(number, number + 1))
            assert member.waiting == 0  # 99 records came, one by one, and nothing else was handed over
            member.finish(held)
            came_meanwhile = await member.next()
            assert numbers([came_meanwhile], key) == list(range(start + 1, start + 100))
            member.finish(came_meanwhile)


async def test_what_is_produced_while_idle_arrives_at_once(settings: Settings, broker: Broker) -> None:
    """A poll that waits is woken by the record, not by its own end."""
    topic = await broker.topic(1)
    loop = asyncio.get_running_loop()
    async with Member(settings, "idle", [topic], Positions()) as member:
        await broker.produce(topic, padded(0, 1))
        await member.collect(1)
        waits = []
        for number in range(1, 21):
            began = loop.time()
            await broker.produce(topic, padded(number, number + 1))
            await member.collect(1)
            waits.append(loop.time() - began)
    assert sorted(waits)[len(waits) // 2] < IDLE_POLL_S / 2


async def test_every_codec_is_read(settings: Settings, broker: Broker) -> None:
    codecs = ["gzip", "snappy", "lz4", "zstd", None]
    topic = await broker.topic(len(codecs))
    for partition, codec in enumerate(codecs):
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_url, compression_type=codec, linger_ms=20)
        await producer.start()
        try:
            await broker.produce(topic, padded(0, 500, size=300), partition, producer)
        finally:
            await producer.stop()
    async with Member(settings, "codecs", [topic], Positions()) as member:
        batches = await member.collect(500 * len(codecs))
    for key in keys(topic, len(codecs)):
        assert [record.value for record in records(batches, key)] == padded(0, 500, size=300)


async def test_keys_values_and_headers_are_bytes_as_they_came(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    sent: list[tuple[Any, Any, Any]] = [
        (b"\xff\xfe", b"\x00random\xff", [("h", b"\xff"), ("h", b"twice")]),
        (b"tombstone", None, []),
        (None, b"no key", []),
        (b"", b"", [("empty", b"")]),
    ]
    for record_key, value, headers in sent:
        await broker.producer.send_and_wait(topic, value, record_key, headers=headers)
    async with Member(settings, "bytes", [topic], Positions()) as member:
        batches = await member.collect(4)
    assert [(r.key, r.value, list(r.headers)) for r in records(batches, key)] == sent


async def test_it_begins_where_the_positions_say(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(3)
    first, second, stopped = keys(topic, 3)
    for partition in range(3):
        await broker.produce(topic, padded(0, 10), partition)
    positions = Positions()
    positions.at = {first: 4, second: 10}
    positions.stopped = {stopped}
    async with Member(settings, "begin", [topic], positions) as member:
        (batch,) = await member.collect(6)
        await broker.produce(topic, padded(10, 11), 1)
        await broker.produce(topic, padded(10, 11), 2)
        (later,) = await member.collect(1)
    assert (numbers([batch], first), batch.spans[first].begin) == (list(range(4, 10)), 4)
    assert numbers([later], second) == [10]
    assert stopped not in {*batch.spans, *later.spans}
    assert positions.asked == [{first, second, stopped}]
