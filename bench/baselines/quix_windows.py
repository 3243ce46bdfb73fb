"""Quix Streams: a tumbling count of a minute by key, exactly-once, its results in a topic.

A window is written once, when it is over (`final`); `current` would write every update. It is over for a whole
partition at once, since each partition is in order. Runs in an environment of its own (`quix_windows.lock`).
"""

import argparse
from datetime import datetime
from time import monotonic
from typing import Any

from quixstreams import Application
from quixstreams.models import TopicConfig

from bench.baselines.reporting import Meter


def main() -> None:
    """Count `records` records from the topic's beginning; the results stand in the topic `out`."""
    parser = argparse.ArgumentParser(description="Quix Streams, windowed count")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--out", required=True, help="where the results go")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--data", required=True, help="a folder for its state")
    parser.add_argument("--records", type=int, required=True)
    options = parser.parse_args()
    meter = Meter()
    app = Application(
        broker_address=options.kafka,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=options.data,
        loglevel="WARNING",
    )

    def event_time(value: Any, _headers: Any, _timestamp: float, _kind: Any) -> int:
        # Called once for each record, so it counts them, too.
        if not meter.seen:
            meter.began = monotonic()
        meter.seen += 1
        if meter.seen == options.records:
            app.stop()  # after this record; what is open is committed then
        return int(datetime.fromisoformat(value["time"]).timestamp() * 1000)

    source = app.topic(options.topic, key_deserializer="str", value_deserializer="json", timestamp_extractor=event_time)
    out = app.topic(
        options.out,
        key_serializer="str",
        value_serializer="json",
        config=TopicConfig(num_partitions=options.partitions, replication_factor=1),
    )
    counted = app.dataframe(source).tumbling_window(60_000).count().final(closing_strategy="partition")
    counted.to_topic(out)
    meter.report(0.1)
    app.run()
    meter.ended = monotonic()
    meter.result()
    meter.stay()


if __name__ == "__main__":
    main()
