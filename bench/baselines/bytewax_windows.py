"""Bytewax: a windowed count of a minute by type on event time, one worker; its results in a list, no recovery.

Records are decoded a batch at a time, which its documentation advises. Windows are closed by the end of the topic:
Bytewax compares event times with the system's clock, and the hour is long over. Runs in an environment of its own
(`bytewax_windows.lock`).
"""

import argparse
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

from bench.baselines.reporting import Meter

LENGTH = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build(options: argparse.Namespace, meter: Meter, found: list[Any]) -> Dataflow:
    """From the topic to `found`: (type, (number of the window since 1970, count))."""

    def decode(messages: list[Any]) -> list[tuple[str, datetime]]:
        if not meter.seen:
            meter.began = monotonic()
        meter.seen += len(messages)
        events = [orjson.loads(message.value) for message in messages]
        return [(event["type"], datetime.fromisoformat(event["time"])) for event in events]

    flow = Dataflow("windows")
    source = KafkaSource([options.kafka], [options.topic], tail=False, batch_size=options.batch)
    events = op.flat_map_batch("decode", op.input("source", flow, source), decode)
    clock = win.EventClock(lambda event: event[1], wait_for_system_duration=timedelta(hours=2))
    counted = win.count_window(
        "count", events, clock, win.TumblingWindower(length=LENGTH, align_to=EPOCH), key=lambda event: event[0]
    )
    op.output("found", counted.down, TestingSink(found))
    return flow


def main() -> None:
    """Count to the end of the topic, and tell."""
    parser = argparse.ArgumentParser(description="Bytewax, windowed count")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    meter, found = Meter(), list[Any]()
    flow = build(options, meter, found)
    meter.report(0.1)
    run_main(flow)
    meter.ended = monotonic()
    meter.result((window * 60, kind, number) for kind, (window, number) in found)
    meter.stay()


if __name__ == "__main__":
    main()
