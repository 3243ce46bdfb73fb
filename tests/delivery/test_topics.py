"""Topics are made at the first start and checked at every other; what differs is refused, with the way out."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

import topics
from config import Settings
from streams.admin import WrongTopic, ensure_topics
from tests.contracts.harness import Broker, until
from topics import COMMANDS_RESOURCES, INGEST


async def test_they_are_made_once_as_the_table_says(own_settings: Settings, broker: Broker) -> None:
    names = [topic.full_name(own_settings.topic_prefix) for topic in topics.TOPICS]
    assert sorted(await ensure_topics(own_settings)) == sorted(names)
    assert await ensure_topics(own_settings) == []
    described = {found["topic"]: found for found in await broker.admin.describe_topics(names)}
    for topic in topics.TOPICS:
        found = described[topic.full_name(own_settings.topic_prefix)]
        assert len(found["partitions"]) == topic.partitions


async def test_two_starts_at_once(own_settings: Settings) -> None:
    made = await asyncio.gather(*(ensure_topics(own_settings) for _ in range(3)), return_exceptions=True)
    assert [error for error in made if isinstance(error, BaseException)] == []
    assert await ensure_topics(own_settings) == []


async def test_another_number_of_partitions_is_refused(own_settings: Settings, broker: Broker) -> None:
    await ensure_topics(own_settings)
    name = COMMANDS_RESOURCES.full_name(own_settings.topic_prefix)
    admin: AIOKafkaAdminClient = broker.admin
    await admin.create_partitions({name: NewPartitions(7)})

    async def grown() -> bool:
        (found,) = await admin.describe_topics([name])
        return len(found["partitions"]) == 7

    await until(grown)
    with pytest.raises(WrongTopic) as refused:
        await ensure_topics(own_settings)
    text = str(refused.value)
    assert name in text
    assert "has 7 partitions" in text
    assert "topics.py says 4" in text
    assert "docs/operators.md" in text
    assert "YEOUL_TOPIC_PREFIX" in text


async def test_another_clean_up_policy_is_refused(own_settings: Settings, broker: Broker) -> None:
    name = INGEST.full_name(own_settings.topic_prefix)
    await broker.make(name, INGEST.partitions, cleanup_policy="compact")
    with pytest.raises(WrongTopic) as refused:
        await ensure_topics(own_settings)
    text = str(refused.value)
    assert name in text
    assert "cleanup.policy=compact" in text
    assert "topics.py says delete" in text
    assert "kafka-configs" in text


async def test_strangers_do_not_tell_the_log_what_time_it_is(
    own_settings: Settings, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    await ensure_topics(own_settings)
    name = INGEST.full_name(own_settings.topic_prefix)
    producer = AIOKafkaProducer(bootstrap_servers=own_settings.kafka_url)
    consumer = AIOKafkaConsumer(name, bootstrap_servers=own_settings.kafka_url, auto_offset_reset="earliest")
    before = time.time() * 1000 - 1000
    async with producer, consumer:
        await producer.send_and_wait(name, b"1", timestamp_ms=1_000_000_000_000)
        record = await consumer.getone()
    assert before <= record.timestamp <= time.time() * 1000 + 1000
    assert "message.timestamp.type" not in caplog.text


async def test_a_topic_that_believes_its_producers_is_told_of(
    own_settings: Settings, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    name = INGEST.full_name(own_settings.topic_prefix)
    await broker.make(name, INGEST.partitions)
    await ensure_topics(own_settings)
    assert f"topic {name} has message.timestamp.type=CreateTime and topics.py says LogAppendTime" in caplog.text
