"""Boards: whatever comes, in whatever order and however often, a board ends as the table that it shows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import reports, windows
from domain.boards import Board, View
from domain.metrics import Metric, declared
from domain.questions import spellings
from domain.reports import Part

NOW = 1_800_000_000 // 300 * 300


def metric(**more: Any) -> Metric:
    fields = {
        "events": ["*"],
        "group_by": ["data.shop", "data.floor"],
        "measures": {"revenue": {"sum": "data.total"}},
        "windows": {"minute": "2d", "15m/5m": "2d", "month": "5y"},
        **more,
    }
    (found,), complaints = declared({"orders": fields})
    assert not complaints
    return found


METRIC = metric()


def part(n: int, start: int = NOW, group: str = '["a",1]', measure: str = "count") -> Part:
    return Part(start, group, measure, n)


def counts(board: Board) -> dict[tuple[int, str], int]:
    found = {}
    while cells := board.take(2):
        for place, line in zip(sorted(cells), reports.lines(METRIC, cells), strict=True):
            assert place not in found  # each window once
            found[place] = line.values["count"]
    return found


TOTALS = st.lists(
    st.tuples(
        st.sampled_from([0, 300, 600, 900]), st.sampled_from(['["a",1]', '["b",null]']), st.sampled_from("pq"),
        st.integers(1, 50),
    ),
    max_size=40,
)  # fmt: skip


@given(TOTALS, st.randoms(use_true_random=False))
def test_the_order_of_totals_makes_no_difference(totals: list[tuple[int, str, str, int]], random: Any) -> None:
    window = windows.parse("15m/5m")
    board = Board(METRIC, View(window, 4), NOW)
    shown: dict[tuple[int, str], int] = {}
    told = totals * 2
    random.shuffle(told)
    for before, group, feed, n in told:
        board.put(feed, part(n, NOW - before, group))
        if random.random() < 0.3:
            shown |= counts(board)
    shown |= counts(board)
    table: dict[tuple[int, str, str], int] = {}
    for before, group, feed, n in totals:
        table[NOW - before, group, feed] = max(n, table.get((NOW - before, group, feed), 0))
    since = View(window, 4).since(NOW)
    expected: dict[tuple[int, str], int] = {}
    for (start, group, _), n in table.items():
        for each in windows.containing(window, start):
            if each >= since and start >= since:
                expected[each, group] = expected.get((each, group), 0) + n
    assert shown == expected


def test_what_is_older_than_the_last_windows_is_forgotten() -> None:
    board = Board(METRIC, View(windows.parse("minute"), 3), NOW)
    for age in range(5):
        board.put("p", part(1, NOW - 60 * age))
    assert sorted(start for start, _ in counts(board)) == [NOW - 120, NOW - 60, NOW]
    size = board.size
    board.put("p", part(2, NOW - 120))
    board.advance(NOW + 60)
    assert board.size == size * 2 // 3
    assert counts(board) == {}
    board.put("p", part(9, NOW - 120))
    assert counts(board) == {}


def test_the_last_months_are_those_of_the_calendar() -> None:
    leap_day = 1_835_395_200  # 29 February 2028
    assert View(windows.parse("month"), 2).since(leap_day) == 1_830_297_600  # 1 January 2028
    assert View(windows.parse("month"), 1).since(leap_day) == 1_832_976_000


@pytest.mark.parametrize(
    ("asked", "group", "shown"),
    [
        ({}, '["a",1]', True),
        ({0: "a"}, '["a",1]', True),
        ({0: "b"}, '["a",1]', False),
        ({0: "a", 1: "1"}, '["a",1]', True),
        ({1: "1.0"}, '["a",1]', True),
        ({1: "1"}, '["a","1"]', True),
        ({1: '"1"'}, '["a",1]', False),
        ({1: "null"}, '["a",null]', True),
        ({0: 'x"'}, '["x\\"",true]', True),
        ({1: "true"}, '["x",true]', True),
        ({0: "__other__"}, '["__other__","__other__"]', True),
    ],
)
def test_groups_are_chosen_by_what_a_text_may_mean(asked: dict[int, str], group: str, shown: bool) -> None:
    wanted = tuple((place, spellings(text)) for place, text in asked.items())
    assert View(windows.parse("minute"), 1, wanted).shows(group) is shown
