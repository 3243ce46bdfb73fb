"""The ceiling in Python: `getmany`, orjson, a Counter by minute and type; nothing is kept, grouped or supervised."""

import argparse
from collections import Counter
from datetime import datetime
from time import monotonic

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.baselines.reporting import Meter


async def count(kafka: str, topic: str, records: int) -> None:
    """Count `records` records from the topic's beginning."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
        check_crcs=False,
    )
    counts: Counter[tuple[str, str]] = Counter()
    meter = Meter()
    meter.report(0.1)
    await consumer.start()
    try:
        while meter.seen < records:
            fetched = await consumer.getmany(timeout_ms=500, max_records=20_000)
            meter.began = meter.began or monotonic()
            for of_partition in fetched.values():
                events = [orjson.loads(record.value) for record in of_partition]
                # A time of the hour is UTC and has its minute in the first 16 characters.
                counts.update([(event["time"][:16], event["type"]) for event in events])
                meter.seen += len(of_partition)
        meter.ended = monotonic()
    finally:
        await consumer.stop()
    meter.result(
        (int(datetime.fromisoformat(f"{minute}+00:00").timestamp()), kind, number)
        for (minute, kind), number in counts.items()
    )
    meter.stay()


def main() -> None:
    """Count, and tell."""
    parser = argparse.ArgumentParser(description="plain aiokafka, windowed")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    options = parser.parse_args()
    uvloop.run(count(options.kafka, options.topic, options.records))


if __name__ == "__main__":
    main()
