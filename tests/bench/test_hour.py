from collections import Counter
from datetime import UTC, datetime

import msgspec
import pytest

from bench import hour
from bench.freshness import Ages
from bench.stream_topic import PARTITIONS

START = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
TOTAL = 2_003
"""Not a multiple of types, partitions or minutes."""


def written() -> list[list[tuple[int, str]]]:
    """Minute and type of the events of each partition, as a reader finds them."""
    found = []
    for partition in range(PARTITIONS):
        values = [msgspec.json.decode(value) for _, value, _ in hour.events(partition, TOTAL, START)]
        found.append(
            [
                (int(datetime.fromisoformat(value["time"]).timestamp()) // 60 * 60, value["type"])
                for value in values
                if not value["type"].startswith(hour.END)
            ]
        )
    return found


def test_what_is_expected_is_what_is_written() -> None:
    assert hour.expected(TOTAL, START) == Counter(pair for partition in written() for pair in partition)


def test_of_the_first_events_of_each_type_their_windows_are_expected() -> None:
    first = [pair for partition in written() for pair in partition[:100]]
    handled = Counter(kind for _, kind in first)
    assert hour.expected(TOTAL, START, handled) == Counter(first)


def test_each_type_is_in_one_partition_and_each_partition_has_an_end() -> None:
    records = [list(hour.events(partition, TOTAL, START)) for partition in range(PARTITIONS)]
    keys = [{key for key, _, _ in partition} for partition in records]
    assert sum(map(len, keys)) == len(hour.TYPES) + PARTITIONS
    assert all(partition[-1][0].decode().startswith(hour.END) for partition in records)
    assert sum(map(len, records)) == hour.records(TOTAL)


def test_a_wrong_count_is_named_with_its_window() -> None:
    wanted = hour.expected(TOTAL, START)
    minute, kind = next(iter(wanted))
    with pytest.raises(SystemExit, match=f"1 windows of .* 08:00 {kind}"):
        hour.check("somebody", {**wanted, (minute, kind): wanted[minute, kind] + 1}, wanted)
    hour.check("somebody", dict(wanted), wanted)


def test_the_age_of_an_event_is_that_of_the_first_row_that_counts_it() -> None:
    ages = Ages()
    for at in (10.0, 10.1, 10.2):
        ages.sent(0, "a", at)
    ages.counted(0, "a", 2, 10.5)
    ages.counted(0, "a", 2, 10.9)
    assert ages.ms == pytest.approx([500, 400])
    assert ages.waiting == 1
    ages.counted(0, "a", 3, 11.2)
    assert ages.waiting == 0
    assert ages.percentile(0.99) == pytest.approx(1000)
    with pytest.raises(SystemExit, match="4 counted, 3 sent"):
        ages.counted(0, "a", 4, 12.0)
