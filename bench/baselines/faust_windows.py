"""A stock Faust agent with a tumbling table of a minute on event time, as Faust's own documentation writes it.

Nothing is tuned against it: at-least-once, a memory store with its changelog topic, JSON decoded by Faust. It is so
much slower than the others that it is watched for some seconds, once it has settled, and not to the end of the hour.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import faust

from bench.baselines.reporting import Meter


def build(options: argparse.Namespace) -> faust.App:
    """The app: one topic, one table, one agent."""
    app = faust.App(
        options.group,
        broker=f"kafka://{options.kafka}",
        store="memory://",
        datadir=options.data,
        topic_partitions=options.partitions,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    counts = (
        app.Table("counts", default=int)
        .tumbling(timedelta(minutes=1), expires=timedelta(hours=6))
        .relative_to(lambda event: datetime.fromisoformat(event.value["time"]))
    )
    meter = Meter()

    async def count(events: AsyncIterator[dict[str, Any]]) -> None:
        handled: Counter[str] = Counter()
        settled = 0.0
        async for event in events:
            counts[event["type"]] += 1
            handled[event["type"]] += 1
            meter.seen += 1
            if meter.seen % 100:
                continue
            now = monotonic()
            settled = settled or now + options.settle
            if not meter.began and now >= settled:
                meter.began, meter.first = now, meter.seen
            elif meter.began and now >= meter.began + options.seconds:
                break
        meter.ended = monotonic()
        # What stands in the table now is what was handled: nothing was awaited in between.
        rows = [(int(start), kind, number) for (kind, (start, _)), number in counts.table.items()]
        meter.result(rows, handled)
        await asyncio.Event().wait()

    app.agent(app.topic(options.topic, value_serializer="json"))(count)
    meter.report(0.1)
    return app


def main() -> None:
    """Count until it was watched long enough, tell, and wait for SIGTERM."""
    parser = argparse.ArgumentParser(description="a stock Faust agent with a tumbling table")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--data", required=True, help="a folder for Faust's own files")
    parser.add_argument("--settle", type=float, required=True, help="seconds that are not its steady state")
    parser.add_argument("--seconds", type=float, required=True, help="how long it is watched")
    faust.Worker(build(parser.parse_args()), loglevel="warning").execute_from_commandline()


if __name__ == "__main__":
    main()
