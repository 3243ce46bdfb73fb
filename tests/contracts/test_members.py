"""Several members of a group: what moves between them, how soon, and that nothing is handled by both."""

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
    keys,
    numbers,
    padded,
    until,
)


async def test_what_one_member_committed_is_given_to_no_other(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(4)
    positions = Positions()
    handed: list[tuple[str, int, int]] = []

    def handler(name: str) -> Any:
        async def handle(batch: Batch) -> None:
            for key, found in batch.records.items():
                handed.extend((name, key.partition, record.offset) for record in found)
            if positions.move(batch):
                batch.consumer.finish(batch)
            else:
                batch.consumer.rewind(batch)

        return handle

    done = asyncio.Event()
    sent = 0

    async def produce() -> None:
        nonlocal sent
        while not done.is_set():
            await asyncio.gather(*(broker.produce(topic, padded(sent, sent + 20), partition) for partition in range(4)))
            sent += 20

    members = [
        Member(settings, "two", [topic], positions, instance=name, handle=handler(name), read_ahead=True)
        for name in ("a", "b")
    ]
    first, second = members
    async with first:
        await until(lambda: len(first.assigned) == 4)
        producing = asyncio.create_task(produce())
        try:
            await until(lambda: len(handed) > 100)
            async with second:
                await until(lambda: len(first.assigned) == len(second.assigned) == 2)
                assert first.assigned | second.assigned == set(keys(topic, 4))
                both = len(handed)
                await until(lambda: {name for name, _, _ in handed[both:]} == {"a", "b"})
            await until(lambda: len(first.assigned) == 4)
        finally:
            done.set()
            await producing
        await until(lambda: positions.at == dict.fromkeys(keys(topic, 4), sent))
    places = [(partition, offset) for _, partition, offset in handed]
    assert len(places) == len(set(places)) == 4 * sent
    assert positions.mismatches == 0


async def test_a_batch_in_hand_is_waited_for_when_another_member_joins(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(2)
    positions = Positions()
    first = Member(settings, "drain", [topic], positions, instance="a")
    second = Member(settings, "drain", [topic], positions, instance="b")
    async with first:
        for partition in range(2):
            await broker.produce(topic, padded(0, 10), partition)
        found = 0
        while found < 20:
            held = await first.next()
            assert held.live
            found += held.count
            if found < 20:
                first.finish(held)
        joining = asyncio.create_task(second.start())
        try:
            await until(lambda: not held.live)
            assert second.assigned == set()
            first.finish(held)
            await joining
            await until(lambda: len(first.assigned) == len(second.assigned) == 1)
            for partition in range(2):
                await broker.produce(topic, padded(10, 13), partition)
            later = {member: await member.collect(3) for member in (first, second)}
        finally:
            await joining
            await second.stop()
    for found_later in later.values():
        for key in found_later[0].spans:
            assert numbers(found_later, key) == [10, 11, 12]
    assert positions.at == dict.fromkeys(keys(topic, 2), 13)


async def test_a_handler_that_gives_its_batch_up_loses_nothing(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(2)
    positions = Positions()
    first = Member(settings, "give-up", [topic], positions, instance="a")
    second = Member(settings, "give-up", [topic], positions, instance="b")
    async with first:
        await broker.produce(topic, padded(0, 10), 0)
        held = await first.next()
        begin = held.spans[TopicPartition(topic, 0)].begin
        joining = asyncio.create_task(second.start())
        try:
            await until(lambda: not held.live)
            first.give_up()
            await joining
            await until(lambda: len(first.assigned) == len(second.assigned) == 1)
            owner = first if TopicPartition(topic, 0) in first.assigned else second
            batches = await owner.collect(10 - begin)
        finally:
            await joining
            await second.stop()
    assert numbers(batches, TopicPartition(topic, 0)) == list(range(begin, 10))
    assert positions.mismatches == 0


async def test_a_drain_is_bounded_and_what_was_let_go_is_read_again(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "DRAIN_S", 0.3)
    topic = await broker.topic(1)
    (key,) = keys(topic, 1)
    await broker.produce(topic, padded(0, 5))
    positions = Positions()
    first = Member(settings, "bound", [topic], positions, instance="a")
    second = Member(settings, "bound", [topic], positions, instance="b")
    async with first:
        held = await first.next()
        async with second:
            await until(lambda: first.assigned | second.assigned and not held.live)
            await until(lambda: held.generation != first.consumer.generation)
            owner = first if first.assigned else second
            if owner is second:
                assert numbers(await second.collect(5), key) == list(range(5))
                # The handler that was slow finds out at the fence.
                assert not positions.move(held)
            else:
                first.give_up()
                assert numbers(await first.collect(5), key) == list(range(5))
        first.give_up()
    assert positions.at == {key: 5}


@pytest.fixture
def long_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions so long that a slow machine has time for what must not wait for their end."""
    monkeypatch.setattr("streams.app.SESSION_S", 25.0)
    monkeypatch.setattr("streams.in_loop.LEAVE_S", 15.0)


@pytest.mark.usefixtures("long_sessions")
async def test_a_member_that_stops_is_replaced_long_before_its_session_ends(settings: Settings, broker: Broker) -> None:
    topic = await broker.topic(4)
    positions = Positions()
    first = Member(settings, "leave", [topic], positions, instance="a")
    second = Member(settings, "leave", [topic], positions, instance="b")
    loop = asyncio.get_running_loop()
    async with second:
        async with first:
            await until(lambda: len(first.assigned) == len(second.assigned) == 2)
            stopped = loop.time()
        await until(lambda: len(second.assigned) == 4)
        for partition in range(4):
            await broker.produce(topic, padded(0, 1), partition)
        await second.collect(4)
        assert loop.time() - stopped < 15.0  # the session is 25 s


@pytest.mark.usefixtures("long_sessions")
async def test_a_member_that_comes_back_under_its_name_needs_no_session_to_end(
    settings: Settings, broker: Broker
) -> None:
    topic = await broker.topic(2)
    positions = Positions()
    loop = asyncio.get_running_loop()
    for start in range(3):
        began = loop.time()
        async with Member(settings, "back", [topic], positions) as member:
            await broker.produce(topic, padded(start, start + 1))
            assert numbers(await member.collect(1), TopicPartition(topic, 0)) == [start]
        assert loop.time() - began < 15.0


async def test_a_stop_while_partitions_move_is_no_crash(
    settings: Settings, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Faust takes the end of its fetcher for a crash then, and has nobody to start it anew."""
    topic = await broker.topic(1)
    async with Member(settings, "moving", [topic], Positions()) as member:
        await until(lambda: member.assigned and member.consumer._thread.kafka._fetcher._fetch_waiters)  # it polls
        assert member.app is not None
        member.app.rebalancing = True
    assert "Crashed reason" not in caplog.text


async def test_a_member_stays_however_long_nothing_is_fetched(settings: Settings, broker: Broker) -> None:
    """aiokafka leaves a group, for good, when nobody fetched for max_poll_interval: 1,000 s as Faust sets it."""
    topic = await broker.topic(1)
    member = Member(settings, "patient", [topic], Positions())
    async with member:
        await until(lambda: len(member.assigned) == 1)
        assert member.app is not None
        coordinator = member.app.batch_consumer._thread.kafka._coordinator  # type: ignore[union-attr]
        coordinator._max_poll_interval = 0.5
        beats = []
        original = coordinator._do_heartbeat

        async def beat() -> Any:
            beats.append(coordinator.generation)
            return await original()

        coordinator._do_heartbeat = beat
        await broker.produce(topic, padded(0, 10), 0)
        batch = await member.next()
        await until(lambda: len(beats) >= 2)  # while the handler holds its batch, longer than the interval
        assert batch.count == 10
        member.finish(batch)
        await until(lambda: len(beats) >= 4)
        await broker.produce(topic, padded(10, 20), 0)
        assert (await member.collect(10))[0].count > 0
        assert len(set(beats)) == 1
