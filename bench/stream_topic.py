"""The topic of `stream.batch`: CloudEvents of about 190 bytes, lz4, spread over an hour of event time.

200,000 such events fit into one prefetch and would be counted from memory: two million are sent. An event's id is
unique, its type one of eight; event time and record timestamp advance evenly over the hour.
"""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import orjson
import uvloop
from aiokafka import AIOKafkaProducer

PARTITIONS = 4
SPAN_S = 3600
TYPES = (
    b"resource.created",
    b"resource.updated",
    b"resource.deleted",
    b"account.created",
    b"account.updated",
    b"file.uploaded",
    b"file.scanned",
    b"notification.sent",
)
EVENT = (
    b'{"specversion":"1.0","id":"%010d","source":"/bench/stream","type":"%s","subject":"%06d",'
    b'"time":"%s.%03dZ","data":{"n":%d,"kind":"note","visibility":"private"}}'
)
BATCH_BYTES = 512 << 10
REPORT_EVERY = 50_000


def moments(start: datetime) -> list[bytes]:
    """Each second of the hour from `start`, as it is written into an event."""
    return [(start + timedelta(seconds=s)).strftime("%Y-%m-%dT%H:%M:%S").encode() for s in range(SPAN_S)]


def event(number: int, total: int, seconds: list[bytes]) -> tuple[bytes, bytes, int]:
    """Event `number` of `total`: key, value, milliseconds since the start of the hour."""
    offset_ms = number * SPAN_S * 1000 // total
    second, millisecond = divmod(offset_ms, 1000)
    subject = number * 7919 % 1_000_000
    value = EVENT % (number, TYPES[number * 31 % 8], subject, seconds[second], millisecond, number)
    return b"%06d" % subject, value, offset_ms


def events(partition: int, total: int, start: datetime) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and time (ms since 1970) of a partition's events, in order."""
    seconds = moments(start)
    start_ms = int(start.timestamp() * 1000)
    for number in range(partition, total, PARTITIONS):
        key, value, offset_ms = event(number, total, seconds)
        yield key, value, start_ms + offset_ms


async def send(kafka: str, topic: str, shares: Mapping[int, Iterable[tuple[bytes, bytes, int]]]) -> None:
    """Send to each partition its events; prints how many were acknowledged, a line at a time."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks=1, compression_type="lz4", max_batch_size=BATCH_BYTES, max_request_size=4 << 20
    )
    await producer.start()
    sent = reported = 0
    try:
        for partition, share in shares.items():
            batch, held, flying = producer.create_batch(), 0, None
            for key, value, at_ms in share:
                if batch.append(key=key, value=value, timestamp=at_ms) is None:
                    if flying is not None:
                        await flying
                    flying = await producer.send_batch(batch, topic, partition=partition)
                    sent += held
                    batch, held = producer.create_batch(), 0
                    batch.append(key=key, value=value, timestamp=at_ms)
                    if sent - reported >= REPORT_EVERY:
                        os.write(1, orjson.dumps({"sent": sent}) + b"\n")
                        reported = sent
                held += 1
            if flying is not None:
                await flying
            if held:
                await (await producer.send_batch(batch, topic, partition=partition))
                sent += held
    finally:
        await producer.stop()
    os.write(1, orjson.dumps({"sent": sent}) + b"\n")


def main() -> None:
    """Fill some partitions of the topic."""
    parser = argparse.ArgumentParser(description="fill the topic of stream.batch")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--only", required=True, help="partitions, separated by commas")
    options = parser.parse_args()
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=SPAN_S)
    shares = {int(part): events(int(part), options.events, start) for part in options.only.split(",")}
    uvloop.run(send(options.kafka, options.topic, shares))


if __name__ == "__main__":
    main()
