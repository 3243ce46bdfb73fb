"""Topics are made and checked at start: what is there must be what topics.py says, or the start is refused."""

import asyncio
import logging
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

import topics
from config import Settings

log = logging.getLogger("yeoul.streams.admin")

WAIT_S = 30.0


class WrongTopic(Exception):
    """A topic is not what topics.py says, and a start must not change that."""


def ensure(settings: Settings) -> list[str]:
    """Make the topics that are missing and check the others; returns the names made. Raises WrongTopic, KafkaError."""
    return asyncio.run(ensure_topics(settings))


async def ensure_topics(settings: Settings) -> list[str]:
    """As `ensure`, on a loop."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url.split(","), client_id="yeoul-topics")
    await admin.start()
    try:
        wanted = {topic.full_name(settings.topic_prefix): topic for topic in topics.TOPICS}
        existing = set(await admin.list_topics())
        missing = [name for name in wanted if name not in existing]
        replicas = min(3, len(admin._client.cluster.brokers()))
        if missing:
            response = await admin.create_topics([_new(name, wanted[name], replicas) for name in missing])
            for name, code, *message in response.topic_errors:
                # Two starts at once: the other one made it, and it is checked below like any other.
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise KafkaError(f"topic {name} could not be made: {for_code(code).__name__} {message}")
        await _check(admin, wanted)
        return missing
    finally:
        await admin.close()


def _new(name: str, topic: topics.Topic, replicas: int) -> NewTopic:
    return NewTopic(
        name,
        topic.partitions,
        replicas,
        topic_configs={
            "cleanup.policy": topic.cleanup,
            "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
            "max.message.bytes": str(topic.max_bytes),
            "message.timestamp.type": _clock(topic),
            "min.insync.replicas": str(max(1, replicas - 1)),
        },
    )


def _clock(topic: topics.Topic) -> str:
    return "CreateTime" if topic.own_time else "LogAppendTime"


async def _check(admin: AIOKafkaAdminClient, wanted: dict[str, topics.Topic]) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        described: list[dict[str, Any]] = await admin.describe_topics(list(wanted))
        if all(found["error_code"] == 0 for found in described):
            break
        if asyncio.get_running_loop().time() > deadline:
            raise KafkaError(f"the topics are not there {WAIT_S:.0f} s after they were made")
        await asyncio.sleep(0.1)
    for found in described:
        topic, count = wanted[found["topic"]], len(found["partitions"])
        if count != topic.partitions:
            raise WrongTopic(
                f"topic {found['topic']} has {count} partitions and topics.py says {topic.partitions}. The partition "
                f"of an aggregate decides who owns it, so this is never changed by a start: see 'Growing a topic' in "
                f"docs/operators.md, or take another YEOUL_TOPIC_PREFIX"
            )
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    for response in await admin.describe_configs(resources):
        for _code, _message, _kind, name, entries in response.resources:
            found_configs = {entry[0]: entry[1] for entry in entries}
            policy, clock = found_configs.get("cleanup.policy"), found_configs.get("message.timestamp.type")
            if policy != wanted[name].cleanup:
                raise WrongTopic(
                    f"topic {name} has cleanup.policy={policy} and topics.py says {wanted[name].cleanup}: records "
                    f"would be lost or kept against the guarantees. Set it with kafka-configs, or take another "
                    f"YEOUL_TOPIC_PREFIX"
                )
            if clock != _clock(wanted[name]):
                # Made by an older version. It works, but whose clocks are wrong can't be told from the record's time.
                log.warning(
                    "topic %s has message.timestamp.type=%s and topics.py says %s: a producer with a wrong clock can"
                    " make others' events late in the metrics. Set it with kafka-configs",
                    name,
                    clock,
                    _clock(wanted[name]),
                )
