"""A stock Faust agent that counts by type in a table, as Faust's own documentation writes it.

Nothing is tuned against it: at-least-once, a memory store with its changelog topic, JSON decoded by Faust. It reads
from the beginning of the topic in a new group each time.
"""

import argparse
from collections.abc import AsyncIterator
from typing import Any

import faust

from bench.baselines.reporting import Meter


def build(kafka: str, topic: str, group: str, partitions: int, data: str) -> faust.App:
    """The app: one topic, one table, one agent."""
    app = faust.App(
        group,
        broker=f"kafka://{kafka}",
        store="memory://",
        datadir=data,
        topic_partitions=partitions,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    counts = app.Table("counts", default=int)
    meter = Meter()

    async def count(events: AsyncIterator[dict[str, Any]]) -> None:
        async for event in events:
            counts[event["type"]] += 1
            meter.seen += 1

    app.agent(app.topic(topic, value_serializer="json"))(count)
    meter.report()
    return app


def main() -> None:
    """Count until SIGTERM."""
    parser = argparse.ArgumentParser(description="a stock Faust agent with a table")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--data", required=True, help="a folder for Faust's own files")
    options = parser.parse_args()
    app = build(options.kafka, options.topic, options.group, options.partitions, options.data)
    faust.Worker(app, loglevel="warning").execute_from_commandline()


if __name__ == "__main__":
    main()
