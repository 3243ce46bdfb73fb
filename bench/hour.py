"""The hour of events that the windowed counts read: `streams.*`.

CloudEvents of about 190 bytes, lz4, on the real topic `ingest`, spread evenly over an hour of event time that is over.
An event's key is its type, one of eight; all of a type are in one partition and in order, so nobody has to move
records before counting. Behind the hour each partition has one event of ten minutes later (`END`): it tells those that
wait for the end of a window that the last one is over.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import uvloop

from bench.stream_topic import PARTITIONS, SPAN_S, moments, send

TYPES = (
    b"bench.order.placed",
    b"bench.order.paid",
    b"bench.order.shipped",
    b"bench.order.returned",
    b"bench.cart.filled",
    b"bench.page.viewed",
    b"bench.page.left",
    b"bench.mail.opened",
)
END = "bench.end."
END_S = SPAN_S + 600
MINUTE = 60
EVENT = (
    b'{"specversion":"1.0","id":"%010d","source":"/bench/hour","type":"%s","subject":"%06d",'
    b'"time":"%s.%03dZ","data":{"n":%d,"kind":"note","visibility":"private"}}'
)

Counts = dict[tuple[int, str], int]
"""How many events by minute (its start, seconds since 1970) and type."""


def begin(now: datetime) -> datetime:
    """When the hour began: two hours before `now`, at a whole minute."""
    return now.replace(second=0, microsecond=0) - timedelta(hours=2)


def events(partition: int, total: int, start: datetime) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and time (ms since 1970) of a partition's events, in order."""
    seconds = moments(start)
    start_ms = int(start.timestamp() * 1000)
    for number in range(partition, total, PARTITIONS):
        offset_ms = number * SPAN_S * 1000 // total
        second, millisecond = divmod(offset_ms, 1000)
        kind = TYPES[number % len(TYPES)]
        subject = number * 7919 % 1_000_000
        yield kind, EVENT % (number, kind, subject, seconds[second], millisecond, number), start_ms + offset_ms
    kind = f"{END}{partition}".encode()
    end = (start + timedelta(seconds=END_S)).strftime("%Y-%m-%dT%H:%M:%S").encode()
    yield kind, EVENT % (total + partition, kind, 0, end, 0, total + partition), start_ms + END_S * 1000


def records(total: int) -> int:
    """How many records there are, the last one of each partition included."""
    return total + PARTITIONS


def expected(total: int, start: datetime, handled: Mapping[str, int] | None = None) -> Counts:
    """What a count of the hour has to be; of the first `handled` events of each type, if that is given."""
    counts: Counts = {}
    first = int(start.timestamp())
    for at, kind in enumerate(TYPES):
        numbers = np.arange(at, total, len(TYPES), dtype=np.int64)
        if handled is not None:
            numbers = numbers[: handled.get(kind.decode(), 0)]
        minutes, found = np.unique(numbers * SPAN_S * 1000 // total // 1000 // MINUTE, return_counts=True)
        for minute, count in zip(minutes.tolist(), found.tolist(), strict=True):
            counts[first + minute * MINUTE, kind.decode()] = count
    return counts


def counts_of(rows: Iterable[tuple[int, str, int]]) -> Counts:
    """Rows (minute, type, number) as counts, those of a window and type added up, without the ends."""
    counts: Counter[tuple[int, str]] = Counter()
    for minute, kind, number in rows:
        if not kind.startswith(END):
            counts[minute, kind] += number
    return dict(counts)


def check(name: str, found: Counts, wanted: Counts) -> None:
    """Raises `SystemExit` that names the first windows whose counts are wrong."""
    if found == wanted:
        return
    wrong = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    shown = "; ".join(
        f"{datetime.fromtimestamp(minute, UTC):%H:%M} {kind} {found.get((minute, kind))} and not "
        f"{wanted.get((minute, kind))}"
        for minute, kind in wrong[:5]
    )
    raise SystemExit(f"{name} counted {len(wrong)} windows of {len(wanted)} wrong: {shown}")


def main() -> None:
    """Fill some partitions of the topic."""
    parser = argparse.ArgumentParser(description="fill the topic of the windowed counts")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--only", required=True, help="partitions, separated by commas")
    parser.add_argument("--start", required=True, help="when the hour begins, with its offset")
    options = parser.parse_args()
    start = datetime.fromisoformat(options.start)
    shares = {int(part): events(int(part), options.events, start) for part in options.only.split(",")}
    uvloop.run(send(options.kafka, options.topic, shares))


if __name__ == "__main__":
    main()
