"""The producer that a process shares: what it needs to be there, and that nothing of an old one is left."""

import asyncio
import contextlib
import gc
import os
import signal
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import ProducerClosed

import topics
from config import Settings
from embedded.stack import Stack
from streams import producer as producers
from streams.admin import ensure_topics
from streams.groups import Connections
from streams.producer import Broker
from streams.protocol import topic_info
from tests.contracts import harness
from tests.contracts.harness import until

EVENTS = topics.EVENTS_RESOURCES


def sockets() -> int:
    """Open sockets of this process."""
    # Path.is_socket is False for one that is gone by now, such as the one that lists the folder.
    return sum(link.is_socket() for link in Path("/proc/self/fd").iterdir())


async def produce(producer: AIOKafkaProducer, topic: str, value: bytes = b"x") -> "asyncio.Future[object]":
    (batch,) = producers.record_batches(producer, [(b"key", value)], [])
    future: asyncio.Future[object] = await producer.send_batch(batch, topic, partition=0)
    return future


async def test_of_a_producer_that_is_replaced_nothing_is_left(
    own_settings: Settings, stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # asyncio tells of what nobody looked at when it is thrown away: of other tests' before this one
    caplog.clear()
    await ensure_topics(own_settings)
    topic = EVENTS.full_name(own_settings.topic_prefix)
    sockets_before, tasks_before = sockets(), asyncio.all_tasks()
    broker = Broker(own_settings, "tests", [topic])
    await broker.start()
    old = broker.producer
    assert old is not None
    await (await produce(old, topic))
    sender = old._sender.sender_task
    try:
        os.kill(stack.pids["kafka"], signal.SIGSTOP)
        # More than fits into the sockets' buffers: a connection that is closed in order waits until that was read.
        unacknowledged = await produce(old, topic, bytes(7 << 20))
        waiting = await produce(old, topic)
        await broker.renew(old)
        assert broker.producer is not old
        assert sender.done()
        for future in (unacknowledged, waiting):
            with pytest.raises(ProducerClosed):
                await future
        await until(lambda: broker.producer is not None or sockets() <= sockets_before)
    finally:
        os.kill(stack.pids["kafka"], signal.SIGCONT)
    await until(lambda: broker.away is None)
    assert broker.producer is not None
    await (await produce(broker.producer, topic))
    await broker.stop()
    await until(lambda: sockets() <= sockets_before)  # fewer where one of another test was open still
    await until(lambda: asyncio.all_tasks() <= tasks_before)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_worker_needs_no_topic_to_reach_the_broker(own_settings: Settings) -> None:
    connections = Connections(own_settings, "tests")
    await connections.broker.start()
    assert connections.broker.away is None
    assert connections.broker.producer is not None
    await connections.close()


async def test_a_front_tells_which_topic_is_missing(own_settings: Settings, broker: harness.Broker) -> None:
    counts = {topic.full_name(own_settings.topic_prefix): topic.partitions for topic in topics.COMMANDS_OF.values()}
    *_, missing = names = list(counts)
    await ensure_topics(own_settings)
    await broker.admin.delete_topics([missing])
    front = Broker(own_settings, "tests", names)
    await until(lambda: broker.gone(missing))
    began = asyncio.get_running_loop().time()
    await front.start()
    assert asyncio.get_running_loop().time() - began < 5.0
    assert front.away is not None
    assert f"topic {missing} does not exist; ./yeoul topics makes it" in front.away
    await ensure_topics(own_settings)
    await until(lambda: front.away is None)
    assert {name: front.partitions(name) for name in names} == counts
    await front.stop()


async def test_who_stood_still_itself_does_not_take_the_broker_for_away(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stood_still = 0

    async def stands_still(client: AIOKafkaClient, names: list[str]) -> object:
        """The question is on its way when all of this process stops for a moment, as a machine does under load."""
        nonlocal stood_still
        asking = asyncio.create_task(topic_info(client, names))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(1.2 * producers.PROBE_TIMEOUT_S)  # noqa: ASYNC251
        stood_still += 1
        return await asking

    monkeypatch.setattr(producers, "PROBE_TIMEOUT_S", 2.0)  # the broker may stand still for a second, too
    broker = Broker(own_settings, "tests", [])
    await broker.start()
    monkeypatch.setattr(producers, "topic_info", stands_still)
    await until(lambda: stood_still == 2)
    monkeypatch.setattr(producers, "topic_info", topic_info)
    await broker.stop()
    assert broker.away is None
    assert "the broker is away" not in caplog.text


async def test_it_stops_though_a_probe_loses_the_cancellation(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wait_for does in Python 3.11 when what it waits for ends in the same moment."""
    probing = asyncio.Event()

    async def probe() -> None:
        probing.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    broker = Broker(own_settings, "tests", [])
    await broker.start()
    monkeypatch.setattr(broker, "_probe", probe)
    async with asyncio.timeout(harness.HANG_S):
        await probing.wait()
        await broker.stop()
    assert broker._task is not None
    assert broker._task.done()
