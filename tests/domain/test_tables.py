"""Events added up: however they were divided into batches, to the bit what one event after the other comes to."""

from datetime import UTC, datetime
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain import sketches
from domain.metrics import Metric, declared
from domain.tables import EXPIRED, FUTURE, LATE, admitted, latest
from tests.domain.plain import Happened, Memory, Plain

NOW = 1_780_000_000
DECLARED: dict[str, Any] = {
    "events": ["order.*", "paid"],
    "where": {"data.test": [False, 1, "no"]},
    "group_by": ["data.shop", "data.deep.er.still", "type"],
    "lateness": "10m",
    "groups": 3,
    "windows": {"minute": "2h", "1h": "3h", "10m/5m": "1d", "month": "1y"},
    "measures": {
        "revenue": {"sum": "data.total"},
        "inner": {"mean": "data.deep.er.total"},
        "least": {"min": "data.total"},
        "most": {"max": "data.total"},
        "buyers": {"distinct": "subject"},
        "shops": {"distinct": "data.shop"},
        "size": {"percentiles": "data.total"},
        "pages": {"top": "data.total", "most": 3},
        "whom": {"top": "subject"},
    },
}


def metric(**changed: Any) -> Metric:
    metrics, complaints = declared({"m": {**DECLARED, **changed}})
    assert not complaints
    return metrics[0]


STRANGE = [
    b"1", b"1.0", b"1e0", b"10e-1", b"-0", b"-0.0", b"0e9", b"0e-1000000", b"0e999999999999999999999", b"2.50", b"-7",
    b"9" * 38, b"1" * 39, b"3" * 60, b"1" + b"0" * 60, b"1" + b"0" * 29, b"5" * 5000, b"0." + b"3" * 38,
    b"0.1" + b"0" * 60, b"1e400", b"-1e400", b"1e-400", b"1e999999999999999999999", b"1e30", b"1e31", b"1e-30",
    b"9.9e-31", b"true", b"false", b"null", b'""', b'"a"', b'"\\u0061"', b'"no"', b'"1"', b'"__other__"',
    b'"\\u0000"', b'"\\ud83d\\ude00"', '"\U0001f600"'.encode(), b'"\\/"', b'"/"',
    b'"%s"' % (b"x" * 10_000), b'"%s"' % (b"y" * 256), b'"%s"' % (b"y" * 257), b'"%s"' % (b"\\u0079" * 256),
    b'"%s"' % ("\u20ac" * 256).encode(), b"[]", b"[1e400]", b"{}", b'{"er":1}', b'{"er": {"still": 1.00, "total": 5}}',
    b'{"er":{"still":"a","total":12345678901234567890.123456789}, "er":{"still":"\\u0061","total":3e-3}}',
    b'{"er":{"total":1e400}}', b'{"er":[{"still":1}]}', b'{"er":{"still":{"x":"%s"}}}' % (b"z" * 10_000),
]  # fmt: skip
"""Values as JSON text."""

values = st.sampled_from(STRANGE)
spaces = st.sampled_from([b"", b" ", b"\n\t "])


@st.composite
def data(draw: st.DrawFn) -> bytes | None:
    """The data of an event, as JSON text; nothing, or no object at all, now and then."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.sampled_from([None, b"null", b"[]", b'[{"shop":1}]', b'"shop"', b"3", b"1.5", b"true", b"{}"]))
    members = {
        name: draw(st.one_of(values, st.sampled_from(usual)))
        for name, usual in (
            ("shop", [b'"a"', b'"b"', b'"c"']),
            ("deep", [b'{"er":{"still":1,"total":0.10}}', b"null"]),
            ("total", [b"1", b"2.50", b"19.99"]),
        )
        if draw(st.integers(0, 9))
    }
    listed = [*members.items(), ("test", draw(st.sampled_from([b"false", b"1.0", b'"no"', b"true", b"0"])))]
    listed += [("unread", draw(values))] if draw(st.booleans()) else []
    # A member that stands twice: the last one counts.
    listed += [(listed[0][0], draw(values))] if draw(st.integers(0, 9)) == 0 else []
    space = draw(spaces)
    return b"{" + b",".join(b'%s"%s"%s:%s%s' % (space, n.encode(), space, space, v) for n, v in listed) + b"}"


def moment(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]  # as many parts as are given


ODD_TIMES = [
    moment(1, 1, 1), moment(1970, 1, 1), moment(1999, 12, 31), moment(2201, 1, 1), moment(9999, 12, 31),
    moment(2026, 5, 1) - 1, moment(2026, 5, 1), moment(2026, 2, 28, 23, 59, 59), moment(2024, 2, 29), NOW + 300,
    NOW + 301, NOW + 4000, NOW - 7200, NOW - 7201,
]  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> list[Happened]:
    """The events of a partition, the log's clock going on."""
    found, clock = [], NOW
    for _ in range(draw(st.integers(0, 25))):
        clock += draw(st.sampled_from([0, 1, 20, 400, 5000]))
        found.append(
            Happened(
                draw(st.sampled_from(["order.placed", "order.", "paid", "other", "order." + "t" * 250])),
                draw(st.sampled_from(["/shop", "/\U0001f600"])),
                draw(st.sampled_from([None, "", "b1", "b2", "b3", "s" * 70, "s" * 5000, "\u0000", "\u20ac" * 200])),
                draw(data()),
                draw(st.one_of(st.integers(clock - 1500, clock + 60), st.sampled_from(ODD_TIMES))),
                clock,
            )
        )
    return found


def in_batches(of: Metric, log: list[Happened], cuts: list[int]) -> Memory:
    memory = Memory(of)
    borders = [0, *sorted(cuts), len(log)]
    for since, until in pairwise(borders):
        if until > since:
            memory.batch(log[since:until])
    return memory


@given(
    events(),
    st.lists(st.integers(0, 25), max_size=8),
    st.sampled_from([{}, {"groups": 1}, {"groups": 100}, {"group_by": []}, {"where": {}, "lateness": "1s"}]),
)
def test_batches_come_to_what_one_event_after_the_other_comes_to(
    log: list[Happened], cuts: list[int], changed: dict[str, Any]
) -> None:
    of = metric(**changed)
    plain = Plain(of)
    # So little room in a `top` that what finds it shows the order.
    with localcontext(prec=300), patch.object(sketches, "ROOM", 2):
        check(of, plain, log, cuts)


def check(of: Metric, plain: Plain, log: list[Happened], cuts: list[int]) -> None:
    for event in log:
        plain.event(event)
    expected = plain.bits
    for memory in (
        in_batches(of, log, []),
        in_batches(of, log, [min(cut, len(log)) for cut in cuts]),
        in_batches(of, log, list(range(len(log)))),
    ):
        assert memory.bits == expected
        assert memory.watermark == plain.watermark
        assert memory.dropped == plain.dropped
        assert {key: n for key, n in memory.groups.items() if n} == {key: len(g) for key, g in plain.groups.items()}


def one(kind: str = "order.placed", data: bytes | None = b"{}", time: int = NOW, appended: int = NOW) -> Happened:
    return Happened(kind, "/shop", None, data, time, appended)


def counted(log: list[Happened], pane: int = 60, **changed: Any) -> dict[str, int]:
    of = metric(**{"where": {}, "group_by": ["data.shop"], "measures": {}, **changed})
    rows = in_batches(of, log, []).rows
    found: dict[str, int] = {}
    for (length, _, group, _), numbers in rows.items():
        if length == pane:
            found[group] = found.get(group, 0) + numbers.n
    return found


def test_equal_values_are_one_group_however_they_are_written() -> None:
    spellings = [b"1", b"1.0", b"1e0", b"10e-1", b'"a"', b'"\\u0061"', b"-0.0", b"0", b'"1"']
    log = [one(data=b'{"shop":%s}' % value) for value in spellings]
    assert counted(log, groups=100) == {"[1]": 4, '["a"]': 2, "[0]": 2, '["1"]': 1}


def test_objects_lists_and_nothing_are_the_group_null() -> None:
    log = [one(data=value) for value in (b'{"shop":{"x":1}}', b'{"shop":[1]}', b"{}", b"[1]", b'"x"', b"null", None)]
    assert counted(log) == {"[null]": 7}


def test_long_values_and_wild_numbers_are_other_and_never_break_a_batch() -> None:
    wild = [b'"%s"' % (b"x" * 10_000), b"1" * 60, b"1e400", b"1e999999999999999999999", b'"\xff"']
    assert counted([one(data=b'{"shop":%s}' % value) for value in wild]) == {'["__other__"]': 5}


def test_a_type_of_256_characters_is_itself() -> None:
    kind = "order." + "t" * 250
    assert counted([one(kind)], group_by=["type"]) == {f'["{kind}"]': 1}


def test_sums_are_exact_also_inside_of_objects_and_beyond_doubles() -> None:
    log = [
        one(data=b'{"total":%s,"deep":{"er":{"total":%s}}}' % (n, n))
        for n in (b"0.1", b"0.2", b"12345678901234567890.123456789", b"1e30", b"1e-30", b"true", b'"7"', b"1e31")
    ]
    measures = {"sum": {"sum": "data.total"}, "inner": {"sum": "data.deep.er.total"}}
    rows = in_batches(metric(where={}, group_by=[], measures=measures), log, []).rows
    for name in ("sum", "inner"):
        numbers = next(numbers for cell, numbers in rows.items() if cell[3] == name)
        with localcontext(prec=100):
            expected = Decimal(10) ** 30 + Decimal("12345678901234567890.423456789") + Decimal("1e-30")
        assert (numbers.n, numbers.total) == (5, expected)


def test_events_without_room_are_others_in_order_and_those_who_call_themselves_so_take_none() -> None:
    shops = ["a", "b", "c", "a", "__other__", "d"]
    log = [one(data=b'{"shop":"%s"}' % shop.encode()) for shop in shops]
    of = metric(where={}, group_by=["data.shop"], groups=2, measures={})
    for cuts in ([], [1, 2, 3, 4, 5]):
        memory = in_batches(of, log, cuts)
        found = {group: numbers.n for (pane, _, group, _), numbers in memory.rows.items() if pane == 60}
        assert found == {'["a"]': 2, '["b"]': 1, '["__other__"]': 3}
        assert set(memory.groups.values()) == {2}


def test_what_is_in_no_window_is_counted_by_reason_in_the_minute_of_the_log() -> None:
    log = [
        one(time=NOW), one(time=NOW - 600), one(time=NOW - 601), one(time=NOW + 300), one(time=NOW + 301),
        one(time=NOW - 7300, appended=NOW + 60), one(time=moment(1999, 1, 1)), one(time=moment(9999, 1, 1)),
    ]  # fmt: skip
    memory = in_batches(metric(where={}, windows={"minute": "2h"}, measures={}), log, [3])
    minute = NOW - NOW % 60
    # The sixth is late already: behind the watermark, before it is asked how long a window is kept.
    assert memory.dropped == {(LATE, minute): 1, (LATE, minute + 60): 1, (FUTURE, minute): 3}
    assert memory.watermark == NOW + 300


def test_what_is_older_than_a_window_is_kept_is_expired_for_that_window_alone() -> None:
    of = metric(where={}, group_by=[], windows={"minute": "1h", "day": "7d"}, measures={}, lateness="2d")
    memory = in_batches(of, [one(time=NOW - 86_400)], [])
    assert memory.dropped == {(EXPIRED, NOW - NOW % 60): 1}
    assert [cell[0] for cell in memory.rows] == [86_400]


def test_a_wrong_clock_does_not_move_the_watermark() -> None:
    times = np.array([NOW + 301, moment(1999, 1, 1), moment(9999, 12, 31), moment(1, 1, 1)])
    assert latest(times, np.full(4, NOW)) == 0
    assert latest(np.array([NOW + 300]), np.array([NOW])) == NOW + 300


@given(st.lists(st.text("abc", max_size=2)), st.integers(1, 4))
def test_who_finds_room_keeps_it(names: list[str], most: int) -> None:
    groups = list(dict.fromkeys(f'["{name}"]' for name in names))
    known = set(groups[::3])
    places = admitted(groups, known, len(known), max(most, len(known)))
    assert list(places) == groups
    assert all(places[group] == group for group in known)
    assert len(set(places.values()) - {'["__other__"]'}) <= max(most, len(known))
