"""What the shipped reader of events counted, once it has handled everything there is."""

import time
from collections import Counter
from datetime import UTC, datetime

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from config.zones import zone
from domain.questions import Question, question
from tests.flows.harness import System, until


async def caught_up(installation: System, topic: str, within_s: float = 120.0) -> None:
    """Wait until the group `analytics` has handled everything that the topic has now."""
    name = f"{installation.settings.topic_prefix}.{topic}"
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka_url)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(name, number) for number in range(4)])
    finally:
        await consumer.stop()

    async def there() -> bool:
        rows = await installation.stores.database.fetch(
            "SELECT partition, next_offset FROM progress WHERE topic = $1 AND consumer_group LIKE '%.analytics'", name
        )
        stands = {row["partition"]: row["next_offset"] for row in rows}
        return all(stands.get(key.partition, 0) >= end for key, end in ends.items())

    await until(there, within_s, f"everything of {name} is handled")


async def events(installation: System, since: datetime, **groups: str) -> Counter[tuple[int, str, str]]:
    """What the metric `events` has by the minute: counts by its beginning (seconds), source and type."""
    read = installation.stores.reports
    table = (await read.tables())["events"]
    groups = {f"group[{path}]": value for path, value in groups.items()}
    asked = question(table.metric, {"from": since.isoformat(), **groups}, int(time.time()), zone)
    assert isinstance(asked, Question), asked
    lines = await read.lines(table, asked, 1_000_000)
    return Counter({(line.start, *msgspec.json.decode(line.group)): line.values["count"] for line in lines})


async def counted(installation: System, kind: str, topic: str = "events.resources") -> int:
    """How many events of a type are counted, everything of the topic being handled."""
    await caught_up(installation, topic)
    return (await events(installation, datetime.fromtimestamp(time.time() - 86_400, UTC), type=kind)).total()
