"""An exception or a cancel acknowledges nothing; Kafka's own offsets are written, and never followed."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from config import Settings
from streams import consumer
from streams.batches import Batch
from tests.contracts.harness import (
    Broker,
    Member,
    Positions,
    committed,
    keys,
    numbers,
    padded,
    until,
)


async def test_an_exception_brings_the_batch_again(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.runtime.RESTART_S", 0.01)
    topic = await broker.topic(2)
    await broker.produce(topic, padded(0, 3), 0)
    await broker.produce(topic, padded(0, 3), 1)
    positions = Positions()
    async with Member(settings, "raises", [topic], positions) as member:
        seen: list[Batch] = []
        while sum(batch.count for batch in seen) < 6:
            batch = await member.next()
            seen.append(batch)
            if sum(one.count for one in seen) < 6:
                member.finish(batch)
        last = seen[-1]
        for _ in range(3):
            member.fail(RuntimeError("a defect"))
            again = await member.next()
            assert {key: numbers([again], key) for key in again.spans} == {
                key: numbers([last], key) for key in last.spans
            }
        told = await committed(broker, member.group)
        assert all(told.get(key, 0) <= span.begin for key, span in last.spans.items())
        member.finish(again)
        await broker.produce(topic, padded(3, 4))
        (after,) = await member.collect(1)
        assert numbers([after], TopicPartition(topic, 0)) == [3]
    assert "failed as a whole" in caplog.text


async def test_a_cancel_brings_the_batch_again(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "DRAIN_S", 0.2)
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    await broker.produce(topic, padded(0, 5))
    positions = Positions()
    taken: list[Batch] = []
    ended: list[BaseException] = []

    async def hold(batch: Batch) -> None:
        taken.append(batch)
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ended.append(error)
            raise

    async with Member(settings, "cancel", [topic], positions, handle=hold):
        await until(lambda: taken)
    assert [type(error) for error in ended] == [asyncio.CancelledError]
    assert positions.at == {key: 0}
    assert await committed(broker, f"{settings.topic_prefix}.cancel") == {}
    async with Member(settings, "cancel", [topic], positions) as member:
        assert numbers(await member.collect(5), key) == list(range(5))


@pytest.fixture
def patient_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets that the broker is slow to note are not given up: nothing follows with which they would be told again."""
    monkeypatch.setattr("streams.in_loop.TELL_S", 30.0)


@pytest.mark.usefixtures("patient_telling")
async def test_kafka_is_told_the_offsets_for_lag_tools_and_never_ahead_of_finish(
    settings: Settings, broker: Broker
) -> None:
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    async with Member(settings, "lag", [topic], Positions()) as member:
        told: list[int] = []

        async def offsets() -> int:
            told.append((await committed(broker, member.group)).get(key, 0))
            return told[-1]

        await broker.produce(topic, padded(0, 10))
        await member.collect(10)
        await until(lambda: at(offsets, 10))
        await broker.produce(topic, padded(10, 25))
        held = await member.next()
        assert await offsets() == 10
        member.finish(held)
        await until(lambda: at(offsets, held.spans[key].end))
        await broker.produce(topic, padded(25, 30))
        held = await member.next()
    assert await offsets() == held.spans[key].begin
    assert told == sorted(told)


async def at(offsets: Any, wanted: int) -> bool:
    return bool(await offsets() == wanted)


@pytest.mark.usefixtures("patient_telling")
async def test_at_the_stop_the_last_offsets_are_told(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    await broker.produce(topic, padded(0, 7))
    async with Member(settings, "lag-at-stop", [topic], Positions()) as member:
        await member.collect(7)
    assert await committed(broker, member.group) == {key: 7}


async def test_kafkas_own_offsets_are_never_followed(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    await broker.produce(topic, padded(0, 20))
    positions = Positions()
    async with Member(settings, "own-offsets", [topic], positions) as member:
        await member.collect(20)
    positions.at[key] = 5  # a restored database: it alone knows what was done
    async with Member(settings, "own-offsets", [topic], positions) as member:
        assert numbers(await member.collect(15), key) == list(range(5, 20))
