"""Windows of event time, and the panes that they are made of."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.windows import DAY, HOUR, MINUTE, MONTH, Calendar, Window, containing, end, floor, parse, seconds_of, starts

seconds = st.integers(946_684_800, 7_258_118_400)
panes = st.sampled_from([1, 30, MINUTE, 5 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, MONTH])


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]  # as many parts as are given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h", 3600),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1y", 31_536_000),
        ("10y", 10 * 365 * DAY),
    ],
)
def test_lengths(text: str, expected: int) -> None:
    assert seconds_of(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "1", "m", "-1m", "1.5h", "01m", "1M", " 1m", "1m ", "11y", "9999999s"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("name", "size", "step"),
    [
        ("minute", 60, 60),
        ("hour", 3600, 3600),
        ("day", DAY, DAY),
        ("month", MONTH, MONTH),
        ("5m", 300, 300),
        ("7d", 7 * DAY, 7 * DAY),
        ("10m/1m", 600, 60),
        ("24h/1m", DAY, 60),
        ("30d/1d", 30 * DAY, DAY),
        ("1h/1h", HOUR, HOUR),
    ],
)
def test_names(name: str, size: int, step: int) -> None:
    assert parse(name) == Window(name, size, step)
    assert parse(name).sliding is (size != step)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "year",
        "week",
        "7s",
        "25h",
        "36h",
        "10m/3m",
        "1m/10m",
        "2d/1m",
        "1d/1s",
        "10m/",
        "/1m",
        "month/1d",
        "1m/1m/1m",
    ],
)
def test_what_is_no_window(name: str) -> None:
    with pytest.raises(ValueError, match=r"length of time|multiple|divide a day"):
        parse(name)


@given(panes, seconds)
def test_a_moment_is_in_one_pane(pane: int, second: int) -> None:
    start = floor(pane, second)
    assert start <= second < end(pane, start)
    assert floor(pane, start) == start == floor(pane, end(pane, start) - 1)


@pytest.mark.parametrize(
    ("second", "start", "until"),
    [
        (at(2024, 2, 29, 23, 59, 59), at(2024, 2, 1), at(2024, 3, 1)),
        (at(2023, 2, 28), at(2023, 2, 1), at(2023, 3, 1)),
        (at(2100, 2, 28), at(2100, 2, 1), at(2100, 3, 1)),
        (at(2026, 12, 31, 23, 59, 59), at(2026, 12, 1), at(2027, 1, 1)),
        (at(2027, 1, 1), at(2027, 1, 1), at(2027, 2, 1)),
        (at(2000, 1, 1), at(2000, 1, 1), at(2000, 2, 1)),
    ],
)
def test_months_are_the_calendars(second: int, start: int, until: int) -> None:
    assert (floor(MONTH, second), end(MONTH, start)) == (start, until)


@given(panes, seconds, st.integers(0, 100))
def test_panes_follow_each_other_without_gap(pane: int, since: int, count: int) -> None:
    until = since + count * (31 * DAY if pane == MONTH else pane)
    found = list(starts(pane, since, until))
    assert all(since <= start < until for start in found)
    assert found[1:] == [end(pane, start) for start in found][:-1]
    assert not found or (floor(pane, since - 1) < since and end(pane, found[-1]) >= until)


@given(st.sampled_from(["10m/1m", "1h/5m", "7d/1d", "minute", "30d/1d", "6h"]), seconds)
def test_a_sliding_window_has_a_moment_in_as_many_windows_as_panes(name: str, second: int) -> None:
    window = parse(name)
    found = containing(window, second)
    assert len(found) == window.size // window.step
    assert found == sorted(set(found))
    assert all(start <= second < start + window.size and start % window.step == 0 for start in found)


@given(panes, st.lists(seconds, min_size=1, max_size=20))
def test_a_calendar_finds_what_floor_finds(pane: int, moments: list[int]) -> None:
    # As near to each other as the events of a batch mostly are: a calendar is as long as their span.
    span = 200 * (31 * DAY if pane == MONTH else pane)
    near = [min(moments) + (moment - min(moments)) % span for moment in moments]
    calendar = Calendar(pane, min(near), max(near))
    assert [calendar.start(moment) for moment in near] == [floor(pane, moment) for moment in near]
