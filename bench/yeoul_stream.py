"""The Yeoul side of stream.batch: a reader group as any other, which counts by type in memory.

Everything of a real group is in the way: the Faust agent, the batch transport, the delivery pipeline with its fence,
dead letters and replays, and a transaction in PostgreSQL that moves the progress with every batch. Only the state is
in memory, as the figure asks; it changes after the commit.
"""

import argparse
import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import uvloop
from aiokafka.structs import ConsumerRecord

import config
from bench.baselines.reporting import Meter
from config import Settings
from stores.postgres import Database
from streams.envelope import Unreadable
from streams.groups import Connections, ReaderGroup
from streams.readers import Reader
from streams.runtime import Running
from streams.work import Part
from telemetry import logs
from topics import Repeats, Topic


class Count(Reader):
    """Counts events by type."""

    name = "bench.count"

    def __init__(self, database: Database, group: str, meter: Meter) -> None:
        super().__init__(database, group)
        self.counts: Counter[str] = Counter()
        self.meter = meter

    def decode(self, record: ConsumerRecord) -> str:
        """The event's type. Raises Unreadable."""
        try:
            kind: str = orjson.loads(record.value)["type"]
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            raise Unreadable("not_json", str(error)) from None
        return kind

    async def handle(self, _connection: Any, parts: Sequence[Part]) -> tuple[Counter[str], float]:
        """What this batch adds, and when its handling began."""
        began = time.monotonic()
        added: Counter[str] = Counter()
        for part in parts:
            added.update(part.messages)
        return added, began

    async def after(self, result: tuple[Counter[str], float]) -> None:
        """Committed: now it counts."""
        added, began = result
        self.counts.update(added)
        self.meter.batch(added.total(), began)


async def run(settings: Settings, topic: str, group: str) -> None:
    """Count until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    meter = Meter()
    read = Topic(
        name=topic.removeprefix(f"{settings.topic_prefix}."),
        key="subject",
        owner="the bench",
        carries="events to be counted",
        repeats=Repeats.OPERATION,  # the fence alone: each record is counted by one committed batch
    )
    connections = Connections(settings, "bench")
    running = Running(
        connections, ReaderGroup(group, (read,), lambda shared, name: Count(shared.database, name, meter))
    )
    meter.report()
    running.start()
    await stop.wait()
    await running.stop()
    await connections.close()


def main() -> None:
    """Settings come from the environment, as for any worker."""
    parser = argparse.ArgumentParser(description="a reader group on the batch transport")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    options = parser.parse_args()
    settings = config.load({**config.process_environ(), "YEOUL_KAFKA_URL": options.kafka})
    logs.configure(settings, "bench")
    uvloop.run(run(settings, options.topic, options.group))


if __name__ == "__main__":
    main()
