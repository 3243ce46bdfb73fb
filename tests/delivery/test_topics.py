"""Topics are made at the first start and checked at every other; what differs is refused, with the way out."""

import asyncio

import pytest
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
