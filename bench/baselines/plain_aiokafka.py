"""The ceiling in Python: `getmany`, orjson, a Counter; nothing is committed, grouped or supervised."""

import argparse
from collections import Counter
from time import monotonic

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.baselines.reporting import Meter


async def count(kafka: str, topic: str) -> None:
    """Count from the topic's beginning until the process is ended."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
        check_crcs=False,
    )
    counts: Counter[str] = Counter()
    meter = Meter()
    meter.report()
    await consumer.start()
    try:
        while True:
            fetched = await consumer.getmany(timeout_ms=500, max_records=20_000)
            began, number = monotonic(), 0
            for records in fetched.values():
                counts.update([orjson.loads(record.value)["type"] for record in records])
                number += len(records)
            if number:
                meter.batch(number, began)
    finally:
        await consumer.stop()


def main() -> None:
    """Count until SIGTERM."""
    parser = argparse.ArgumentParser(description="plain aiokafka")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    options = parser.parse_args()
    uvloop.run(count(options.kafka, options.topic))


if __name__ == "__main__":
    main()
