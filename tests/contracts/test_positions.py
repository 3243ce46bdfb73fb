"""Positions are asked for, never assumed: markers, rewinds, stores that are away, topics made anew."""

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from config import Settings
from stores import StoresAway
from streams.batches import Batch
from tests.contracts.harness import Broker, Member, Positions, contiguous, keys, numbers, padded, until


async def test_a_span_follows_the_position_past_transaction_markers_alone(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_url, transactional_id=f"{topic}-t")
    await producer.start()
    end = AIOKafkaConsumer(bootstrap_servers=settings.kafka_url, isolation_level="read_committed")
    await end.start()
    try:
        positions = Positions()
        async with Member(settings, "markers", [topic], positions) as member:
            batches: list[Batch] = []

            async def reach(stable: int) -> None:
                # The coordinator writes its markers a moment after it has said that it will.
                await until(lambda: reaches(end, key, stable))
                while positions.at.get(key, 0) < stable:
                    batch = await member.next()
                    member.finish(batch)
                    batches.append(batch)

            async with producer.transaction():
                await broker.produce(topic, padded(0, 3), producer=producer)
            await reach(4)  # three records and a marker
            for _ in range(2):
                await producer.begin_transaction()
                await broker.produce(topic, padded(90, 94), producer=producer)
                await producer.abort_transaction()
            await reach(14)
            assert batches[-1].count == 0
            async with producer.transaction():
                await broker.produce(topic, padded(3, 5), producer=producer)
            await broker.produce(topic, padded(5, 6))
            await reach(18)
    finally:
        await producer.stop()
        await end.stop()
    assert contiguous(batches) == {key: 18}
    assert numbers(batches, key) == list(range(6))


async def reaches(consumer: AIOKafkaConsumer, key: TopicPartition, stable: int) -> bool:
    return bool((await consumer.end_offsets([key]))[key] == stable)


@pytest.mark.parametrize("read_ahead", [False, True])
async def test_one_partition_read_again_holds_no_other_up(settings: Settings, broker: Broker, read_ahead: bool) -> None:
    topic = await broker.topic(2)
    again, other = keys(topic, 2)
    for partition in range(2):
        await broker.produce(topic, padded(0, 10), partition)
    positions = Positions()
    group = f"rewind-{read_ahead}".lower()
    async with Member(settings, group, [topic], positions, read_ahead=read_ahead) as member:
        await member.collect(20)
        await broker.produce(topic, padded(10, 11))
        held = await member.next()
        for partition in range(2):
            await broker.produce(topic, padded(11, 20), partition)
        if read_ahead:
            await until(lambda: member.consumer._polled is not None)
        # Somebody else moved the partition in the meantime: forwards, but not as far as this one had read.
        positions.at[again] = 15
        member.rewind(held, [again])
        batches = await member.collect(14)
        assert numbers(batches, again) == list(range(15, 20))
        assert numbers(batches, other) == list(range(11, 20))
        assert positions.at == {again: 20, other: 19}
        # And backwards.
        await broker.produce(topic, padded(20, 21))
        held = await member.next()
        positions.at[again] = 2
        member.rewind(held, [again])
        batches = await member.collect(19)
        assert numbers(batches, again) == list(range(2, 21))
        assert numbers(batches, other) == []


async def test_a_position_that_cannot_be_asked_for_is_asked_again(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.consumer.IDLE_POLL_S", 0.05)
    topic = await broker.topic(1)
    await broker.produce(topic, padded(0, 3))

    class Away(Positions):
        failures = 3

        async def locate(self, kafka: Any, partitions: Any) -> dict[TopicPartition, int]:
            if self.failures:
                self.failures -= 1
                raise StoresAway("away")
            return await super().locate(kafka, partitions)

    positions = Away()
    async with Member(settings, "away", [topic], positions) as member:
        await member.collect(3)
        assert positions.failures == 0
        assert not member.consumer.backing_off


async def test_an_offset_that_the_log_has_no_more_is_looked_up_again(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(2)
    lost, other = keys(topic, 2)
    await broker.produce(topic, padded(0, 10), 0)
    positions = Positions()
    positions.at = {lost: 999, other: 0}
    async with Member(settings, "range", [topic], positions) as member:
        await until(lambda: len(positions.asked) > 1)
        assert positions.asked[1] == {lost}
        await broker.produce(topic, padded(0, 4), 1)
        (batch,) = await member.collect(4)
        assert numbers([batch], other) == list(range(4))
        positions.at[lost] = 3
        assert numbers(await member.collect(7), lost) == list(range(3, 10))


async def test_a_topic_made_anew_is_read_from_its_beginning(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(2)
    first, second = keys(topic, 2)
    positions = Positions()
    positions.watch_ids = True
    for partition in range(2):
        await broker.produce(topic, padded(0, 10), partition)
    async with Member(settings, "anew", [topic], positions) as member:
        await member.collect(20)
        assert positions.at == {first: 10, second: 10}
        await broker.remake(topic, 2)
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_url)
        await producer.start()
        try:
            for partition in range(2):
                await broker.produce(topic, padded(100, 130), partition, producer)
        finally:
            await producer.stop()
        batches = await member.collect(60)
    contiguous(batches)
    for key in (first, second):
        assert numbers(batches, key) == list(range(100, 130))
    assert positions.at == {first: 30, second: 30}
