"""Lines as people take them away: every number with all its digits."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from domain import sketches
from domain.metrics import declared
from domain.renderings import as_csv, as_json, as_parquet, described
from domain.reports import Line, Part, filled, gathered, lines

SEOUL, UTC_ZONE = ZoneInfo("Asia/Seoul"), ZoneInfo("UTC")
(ORDERS,), _ = declared(
    {
        "orders": {
            "events": ["*"], "group_by": ["type", "data.size"], "windows": {"hour": "1d"},
            "measures": {
                "revenue": {"sum": "data.total"}, "mean": {"mean": "data.total"}, "buyers": {"distinct": "subject"},
                "took": {"percentiles": "data.ms", "at": [50, 99.9]}, "pages": {"top": "data.page"},
            },
        }
    }
)  # fmt: skip
TOTAL = Decimal("12345678901234567890123456.789")
FULL = Line(
    1_800_000_000, '["=a,\\"여울",7]',
    {
        "count": 3, "revenue": TOTAL, "mean": Decimal("1E+2"), "buyers": 2, "took": {"p50": 1.5, "p99.9": 2.5},
        "pages": [{"value": msgspec.Raw(b'"/a"'), "count": 2}, {"value": msgspec.Raw(b"3"), "count": 1}],
    },
)  # fmt: skip
NOTHING = Line(
    1_800_003_600, '[null,true]',
    {"count": 0, "revenue": Decimal(), "mean": None, "buyers": 0, "took": {"p50": None, "p99.9": None}, "pages": []},
)  # fmt: skip


def test_json_has_the_numbers_own_digits() -> None:
    text = as_json(ORDERS, FULL, SEOUL).decode()
    assert '"start":"2027-01-15T17:00:00+09:00"' in text
    assert '"revenue":12345678901234567890123456.789,"mean":100,' in text
    shown = json.loads(text, parse_float=Decimal)
    assert shown["group"] == {"type": '=a,"여울', "data.size": 7}
    assert shown["revenue"] == TOTAL
    assert json.loads(as_json(ORDERS, NOTHING, UTC_ZONE))["mean"] is None
    assert b'"start":"2027-01-15T09:00:00Z"' in as_json(ORDERS, NOTHING, UTC_ZONE)


def test_csv_is_what_it_was_but_for_formulas() -> None:
    rows = list(csv.reader(io.StringIO(as_csv(ORDERS, [FULL, NOTHING], UTC_ZONE).decode(), newline="")))
    assert rows == [
        ["start", "type", "data.size", "count", "revenue", "mean", "buyers", "took.p50", "took.p99.9", "pages"],
        [
            "2027-01-15T08:00:00Z", '\'=a,"여울', "7", "3", str(TOTAL), "100", "2", "1.5", "2.5",
            '[{"value":"/a","count":2},{"value":3,"count":1}]',
        ],
        ["2027-01-15T09:00:00Z", "", "true", "0", "0", "", "0", "", "", "[]"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "cell"),
    [("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@a", "'@a"), ("\t=1", "'\t=1"), ("\r=1", "'\r=1"),
     ("\n=1", "'\n=1"), (-1, "-1"), (-0.5, "-0.5"), ("a=1", "a=1"), ("'=1", "'=1"), ("", ""), (None, "")],
)  # fmt: skip
def test_a_text_is_no_formula_and_a_number_stays_one(value: object, cell: str) -> None:
    line = msgspec.structs.replace(NOTHING, group=json.dumps([value, value]))
    _, row = csv.reader(io.StringIO(as_csv(ORDERS, [line], UTC_ZONE).decode(), newline=""))
    assert row[1:3] == [cell, cell]


def test_parquet_has_exact_decimals_and_times_of_the_zone() -> None:
    table = parquet.read_table(io.BytesIO(as_parquet(ORDERS, [FULL, NOTHING], SEOUL)))
    assert table.column("start").to_pylist()[0] == datetime(2027, 1, 15, 8, tzinfo=UTC)
    assert str(table.schema.field("start").type) == "timestamp[ms, tz=Asia/Seoul]"
    assert table.column("revenue").to_pylist() == [TOTAL, Decimal()]
    assert table.schema.field("revenue").type == pa.decimal128(38, 3)
    assert table.column("type").to_pylist() == ['=a,"여울', None]
    assert table.column("mean").to_pylist() == [Decimal(100), None]
    assert table.column("took.p99.9").to_pylist() == [2.5, None]
    assert table.column("pages").to_pylist()[0] == [{"value": "/a", "count": 2}, {"value": "3", "count": 1}]
    assert parquet.read_table(io.BytesIO(as_parquet(ORDERS, [], SEOUL))).num_rows == 0


def test_a_number_of_more_digits_than_decimals_have_is_text_in_parquet() -> None:
    long = Decimal("1" * 30 + "." + "2" * 30)
    line = Line(FULL.start, FULL.group, {**FULL.values, "revenue": long})
    assert parquet.read_table(io.BytesIO(as_parquet(ORDERS, [line], SEOUL))).column("revenue").to_pylist() == [
        str(long)
    ]


def test_a_metric_says_what_can_be_asked_of_it() -> None:
    shown = json.loads(described(ORDERS))
    assert shown["group_by"] == ["type", "data.size"]
    assert shown["measures"][:2] == [{"name": "count", "kind": "count"}, {"name": "revenue", "kind": "sum"}]
    assert shown["windows"] == [{"name": "hour", "kept": 86_400}]


def test_gaps_are_filled_for_the_groups_that_were_seen_in_the_order_of_lines() -> None:
    other = Line(FULL.start + 7200, '["!",null]', FULL.values)
    window = ORDERS.windows[0].window
    found = filled(ORDERS, window, [FULL, other], FULL.start, FULL.start + 3 * 3600)
    assert [(line.start - FULL.start, line.group, line.values["count"]) for line in found] == [
        (0, '["!",null]', 0), (0, FULL.group, 3),
        (3600, '["!",null]', 0), (3600, FULL.group, 0),
        (7200, '["!",null]', 3), (7200, FULL.group, 0),
    ]  # fmt: skip
    assert found[0].values == NOTHING.values


def test_groups_and_values_keep_every_digit_and_their_kind() -> None:
    """What is one value in Python, or as a double, is not one group."""
    groups = ['["a",1]', '["a",true]', '["a",0.1234567890123456789]', '["a",0.12345678901234567]', '["a",1.5e+31]']
    parts = [Part(0, group, "count", number + 1) for number, group in enumerate(groups)]
    parts.append(Part(0, '["a",1]', "pages", 1, sketch=sketches.top({"0.1234567890123456789": 1})))
    window = ORDERS.windows[0].window
    found = filled(ORDERS, window, lines(ORDERS, gathered(window, parts, 0, 3600)), 0, 3600)
    assert {line.group: line.values["count"] for line in found} == {group: n for n, group in enumerate(groups, start=1)}
    assert b'"data.size":0.1234567890123456789}' in as_json(ORDERS, found[0], UTC_ZONE)
    (one,) = [line for line in found if line.group == '["a",1]']
    assert b'"pages":[{"value":0.1234567890123456789,"count":1}]' in as_json(ORDERS, one, UTC_ZONE)
    table = parquet.read_table(io.BytesIO(as_parquet(ORDERS, [found[0]], UTC_ZONE)))
    assert table.column("data.size").to_pylist() == ["0.1234567890123456789"]
