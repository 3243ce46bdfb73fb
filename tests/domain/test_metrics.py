"""What a declaration may say, and every complaint about one that says something else."""

from typing import Any

import msgspec
import pytest

from domain.metrics import MOST_METRICS, Kind, Measure, Metric, declared
from domain.tables import Plan, Table

LEAST: dict[str, Any] = {"events": ["order.*"], "windows": {"minute": "2d"}}


def read(**fields: Any) -> Metric:
    metrics, complaints = declared({"m": {**LEAST, **fields}})
    assert complaints == ()
    return metrics[0]


def test_what_need_not_be_said() -> None:
    metric = read()
    assert (metric.title, metric.group_by, metric.where, metric.measures) == ("m", (), (), ())
    assert (metric.lateness, metric.groups, metric.public) == (3600, 1_000, False)
    assert metric.all_measures == (Measure("count", Kind.COUNT),)
    percentiles = read(measures={"size": {"percentiles": "data.total"}, "pages": {"top": "data.page"}}).measures
    assert (percentiles[0].at, percentiles[1].most) == ((50.0, 95.0, 99.0), 10)


@pytest.mark.parametrize(
    ("fields", "key", "says"),
    [
        ({"colour": "red"}, "colour", "no field of a metric; there are events, group_by"),
        ({"title": ""}, "title", "1 to 200"),
        ({"title": "x" * 201}, "title", "1 to 200"),
        ({"title": 7}, "title", "1 to 200"),
        ({"events": []}, "events", "list of event types"),
        ({"events": "order.*"}, "events", "list of event types"),
        ({"events": [1]}, "events", "list of event types"),
        ({"events": ["a b"]}, "events", "no event type"),
        ({"events": ["x" * 257]}, "events", "no event type"),
        ({"where": ["data.x"]}, "where", "table of paths and values"),
        ({"where": {"data.x": []}}, "where", "texts, numbers, true or false"),
        ({"where": {"data.x": {"y": 1}}}, "where", "texts, numbers, true or false"),
        ({"where": {"x": 1}}, "where", "no path"),
        ({"where": {"data.x": float("inf")}}, "where", "no value of an event"),
        ({"where": {"data.x": float("nan")}}, "where", "no value of an event"),
        ({"where": {"data.x": 10**60}}, "where", "no value of an event"),
        ({"where": {"data.x": 1e-31}}, "where", "no value of an event"),
        ({"where": {"data.x": "x" * 257}}, "where", "no value of an event"),
        ({"group_by": "type"}, "group_by", "list of paths"),
        ({"group_by": [f"data.{n}" for n in range(9)]}, "group_by", "8 at most"),
        ({"group_by": ["type", "type"]}, "group_by", "twice"),
        ({"group_by": [7]}, "group_by", "no path"),
        ({"group_by": ["time"]}, "group_by", "no path"),
        ({"group_by": ["data"]}, "group_by", "no path"),
        ({"group_by": ["data."]}, "group_by", "no path"),
        ({"group_by": ["data." + ".".join("abcdefghi")]}, "group_by", "no path"),
        ({"windows": {}}, "windows", "which and how long"),
        ({"windows": ["minute"]}, "windows", "which and how long"),
        ({"windows": {"year": "5y"}}, "windows", "no length of time"),
        ({"windows": {"7s": "1d"}}, "windows", "divide a day"),
        ({"windows": {"10m/3m": "1d"}}, "windows", "whole multiple"),
        ({"windows": {"minute": 2}}, "windows", "no length of time"),
        ({"windows": {"minute": "20y"}}, "windows", "no length of time"),
        ({"windows": {"day": "1h"}}, "windows", "shorter than the window"),
        ({"windows": {"month": "30d"}}, "windows", "shorter than the window"),
        ({"windows": {"7d/1d": "6d"}}, "windows", "shorter than the window"),
        ({"lateness": "soon"}, "lateness", "no length of time"),
        ({"lateness": 60}, "lateness", "no length of time"),
        ({"groups": 0}, "groups", "whole number from 1 to 100000"),
        ({"groups": 100_001}, "groups", "whole number"),
        ({"groups": True}, "groups", "whole number"),
        ({"groups": 1.5}, "groups", "whole number"),
        ({"public": "yes"}, "public", "true or false"),
        ({"measures": []}, "measures", "must be a table"),
        ({"measures": {f"m{n}": {"sum": "data.x"} for n in range(17)}}, "measures", "16 at most"),
        ({"measures": {"count": {"sum": "data.x"}}}, "count", "none of count"),
        ({"measures": {"Total": {"sum": "data.x"}}}, "Total", "a-z 0-9 _"),
        ({"measures": {"a": {}}}, "a", "must say one of"),
        ({"measures": {"a": "sum"}}, "a", "must say one of"),
        ({"measures": {"a": {"sum": "data.x", "min": "data.x"}}}, "a", "must say one of"),
        ({"measures": {"a": {"sum": "total"}}}, "a", "no path"),
        ({"measures": {"a": {"sum": "data.x", "at": [1]}}}, "a", "'at' is nothing that sum takes"),
        ({"measures": {"a": {"percentiles": "data.x", "at": []}}}, "a", "from 0 to 100"),
        ({"measures": {"a": {"percentiles": "data.x", "at": [101]}}}, "a", "from 0 to 100"),
        ({"measures": {"a": {"percentiles": "data.x", "at": [50, 50.0]}}}, "a", "different percentiles"),
        ({"measures": {"a": {"percentiles": "data.x", "at": [99.999999]}}}, "a", "six digits at most"),
        ({"measures": {"a": {"percentiles": "data.x", "at": [True]}}}, "a", "from 0 to 100"),
        ({"measures": {"a": {"percentiles": "data.x", "at": [float("nan")]}}}, "a", "from 0 to 100"),
        ({"measures": {"a": {"top": "data.x", "most": 101}}}, "a", "whole number from 1 to 100"),
    ],
)
def test_every_complaint_names_its_place(fields: dict[str, Any], key: str, says: str) -> None:
    metrics, complaints = declared({"m": {**LEAST, **fields}})
    assert metrics == ()
    assert [(complaint.metric, complaint.key) for complaint in complaints] == [("m", key)]
    assert says in complaints[0].text


@pytest.mark.parametrize("name", ["", "Orders", "1st", "a-b", "x" * 64, "a b", "ü"])
def test_names(name: str) -> None:
    metrics, complaints = declared({name: LEAST})
    assert metrics == ()
    assert "is named by a-z 0-9 _" in complaints[0].text


def test_what_is_no_table_and_too_many() -> None:
    assert "must be a table" in declared({"m": 7})[1][0].text
    assert "allowed are 200" in declared({f"m{n}": LEAST for n in range(MOST_METRICS + 1)})[1][0].text
    assert len(declared({f"m{n}": LEAST for n in range(MOST_METRICS)})[0]) == MOST_METRICS


def test_all_wrong_metrics_are_told_at_once() -> None:
    _, complaints = declared({"a": {**LEAST, "events": []}, "b": LEAST, "c": {**LEAST, "groups": 0}})
    assert [complaint.metric for complaint in complaints] == ["a", "c"]


def test_types_are_matched_whole() -> None:
    metric = read(events=["order.*", "paid"])
    assert all(map(metric.matches, ("order.placed", "order.", "paid", "order.a\nb")))
    assert not any(map(metric.matches, ("order", "orders.x", "PAID", "prepaid", "orderXplaced", "")))


def test_a_pane_is_kept_as_long_as_the_longest_window_made_of_it() -> None:
    metric = read(windows={"minute": "2d", "1h/1m": "3d", "day": "1y", "month": "2y"})
    assert metric.panes() == {60: 3 * 86_400 + 3600, 86_400: 365 * 86_400, -1: 730 * 86_400}


def test_the_shape_is_what_the_rows_depend_on() -> None:
    metric = read(measures={"size": {"percentiles": "data.x"}, "b": {"sum": "data.y"}}, windows={"minute": "2d"})
    same = [
        read(measures={"b": {"sum": "data.y"}, "size": {"percentiles": "data.x", "at": [1]}}, title="T", public=True),
        read(measures={"b": {"sum": "data.y"}, "size": {"percentiles": "data.x"}}, windows={"1h/1m": "9d"}),
    ]
    assert {other.shape for other in same} == {metric.shape}
    others = [
        read(), read(events=["x"]), read(lateness="2h"), read(groups=5), read(group_by=["type"]),
        read(windows={"hour": "2d"}), read(where={"data.x": 1}), read(measures={"b": {"min": "data.y"}}),
    ]  # fmt: skip
    assert len({other.shape for other in [*others, metric]}) == len(others) + 1


def test_a_declaration_comes_back_from_json_as_it_was() -> None:
    metric = read(
        where={"data.x": ["a", 1, 2.5, True]}, group_by=["type"], windows={"10m/1m": "1d", "month": "1y"},
        measures={"p": {"percentiles": "data.x", "at": [99.9]}},
    )  # fmt: skip
    again = msgspec.json.decode(msgspec.json.encode(metric), type=Metric)
    assert (again, again.shape) == (metric, metric.shape)
    assert Plan([Table(1, again)]).data is not None
