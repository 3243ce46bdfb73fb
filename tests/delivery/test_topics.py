"""Topics are made at the first start and checked at every other; what differs is refused, with the way out."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

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


async def configs_of(broker: Broker, name: str) -> dict[str, str]:
    (response,) = await broker.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((_code, _message, _kind, _name, entries),) = response.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_what_strangers_send_has_the_time_of_the_broker(own_settings: Settings, broker: Broker) -> None:
    await ensure_topics(own_settings)
    name = INGEST.full_name(own_settings.topic_prefix)
    assert (await configs_of(broker, name))["message.timestamp.type"] == "LogAppendTime"
    ours = (await configs_of(broker, COMMANDS_RESOURCES.full_name(own_settings.topic_prefix)))["message.timestamp.type"]
    assert ours == "CreateTime"
    sent = await broker.producer.send_and_wait(name, b"{}", partition=0, timestamp_ms=1000)
    consumer = AIOKafkaConsumer(bootstrap_servers=own_settings.kafka_url)
    await consumer.start()
    consumer.assign([TopicPartition(name, 0)])
    consumer.seek(TopicPartition(name, 0), sent.offset)
    record = await consumer.getone()
    await consumer.stop()
    assert abs(record.timestamp / 1000 - time.time()) < 300


async def test_a_topic_of_an_older_version_gets_the_time_of_the_broker_and_keeps_its_other_settings(
    own_settings: Settings, broker: Broker
) -> None:
    name = INGEST.full_name(own_settings.topic_prefix)
    await broker.make(name, INGEST.partitions, retention_ms="1234567")
    assert (await configs_of(broker, name))["message.timestamp.type"] == "CreateTime"
    await ensure_topics(own_settings)

    async def altered() -> bool:
        found = await configs_of(broker, name)
        return (found["message.timestamp.type"], found["retention.ms"]) == ("LogAppendTime", "1234567")

    await until(altered)
