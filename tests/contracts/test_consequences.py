"""What a reader sends as the consequence of an event: signed, and under one operation however often it is sent."""

import asyncio
import gc
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

import topics
from config import Settings
from security.signatures import verify
from stores import StoresAway
from streams.admin import ensure_topics
from streams.consequences import Cause, Consequences
from streams.envelope import SIGNATURE, read_command
from streams.groups import Connections
from tests.contracts import harness
from tests.contracts.harness import until

PARTITIONS = topics.COMMANDS_RESOURCES.partitions


async def read(settings: Settings, topic: topics.Topic) -> list[ConsumerRecord]:
    """All records of a topic, of each partition in order."""
    name = topic.full_name(settings.topic_prefix)
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka_url) as consumer:
        keys = [TopicPartition(name, number) for number in range(PARTITIONS)]
        consumer.assign(keys)
        await consumer.seek_to_beginning(*keys)
        ends = await consumer.end_offsets(keys)
        found: list[ConsumerRecord] = []
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += records
    return found


def cause(id: str) -> Cause:
    return Cause(
        id=id, source="/yeoul/accounts", type="account.erased", subject=uuid4(), sequence="", aggregateversion=2,
        time=datetime(2026, 1, 1, tzinfo=UTC), data=msgspec.Raw(b"{}"),
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01", requestid="asked",
    )  # fmt: skip


async def test_what_kafka_did_not_take_is_sent_again_under_the_same_operations(
    own_settings: Settings, broker: harness.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # asyncio tells of what nobody looked at when it is thrown away: of other tests' before this one
    caplog.clear()
    missing = topics.COMMANDS_SESSIONS.full_name(own_settings.topic_prefix)
    await ensure_topics(own_settings)
    await broker.admin.delete_topics([missing])

    async def gone() -> bool:
        (found,) = await broker.admin.describe_topics([missing])
        return bool(found["error_code"])

    await until(gone)
    connections = Connections(own_settings, "tests")
    await connections.broker.start()
    sender, event = Consequences(connections, "erasures"), cause("event")
    ids = [uuid4() for _ in range(20)]
    orders = [sender.order("resources", "delete_resource", id, b"{}", of=event) for id in ids]
    orders.append(sender.order("sessions", "revoke_sessions", ids[0], b'{"reason":"erased"}', of=event))
    with pytest.raises(StoresAway, match="Kafka takes no commands"):
        await sender.send(orders)
    await ensure_topics(own_settings)

    async def taken() -> bool:
        try:
            await sender.send(orders)
        except StoresAway:
            return False
        return True

    await until(taken)
    await sender.send(orders)
    await sender.send([])
    await connections.close()
    gc.collect()
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text

    deletions = await read(own_settings, topics.COMMANDS_RESOURCES)
    commands = [read_command(record.value) for record in deletions]
    assert {command.subject for command in commands} == set(ids)
    assert len({command.operation for command in commands}) == len(ids)
    assert len(commands) >= 2 * len(ids)
    for record, command in zip(deletions, commands, strict=True):
        signature = dict(record.headers)[SIGNATURE].decode()
        assert verify(own_settings.command_key, signature, b"resources", record.key, record.value)
        assert (command.source, command.actor, command.actorrole) == ("/yeoul/erasures", None, "admin")
        assert (command.traceparent, command.requestid) == (event.traceparent, "asked")
    (first, *others) = [read_command(record.value) for record in await read(own_settings, topics.COMMANDS_SESSIONS)]
    assert {other.operation for other in others} == {first.operation}
    # One id, and yet another operation: the account's sessions are not one of its resources.
    assert first.operation not in {command.operation for command in commands}


def test_an_operation_is_of_its_event_noun_and_aggregate(own_settings: Settings) -> None:
    sender, id = Consequences(Connections(own_settings, "tests"), "erasures"), UUID(int=1)
    operations = {
        sender.order(noun, "delete_resource", aggregate, b"{}", of=of).operation
        for noun in ("resources", "sessions")
        for aggregate in (id, UUID(int=2))
        for of in (cause("one"), cause("two"), "left behind")
    }
    assert len(operations) == 12
    again = sender.order("resources", "delete_resource", id, b"{}", of=cause("one"))
    assert again.operation in operations
