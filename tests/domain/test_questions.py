"""What is asked of a metric, and days of other places."""

from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from domain.local import Local
from domain.metrics import Metric, declared
from domain.questions import Question, question, spellings
from domain.refusals import Problem
from domain.reports import Part, gathered, lines
from domain.tables import EARLIEST

BERLIN, SEOUL = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Seoul")
HOUR, DAY = 3600, 86_400


def metric(**fields: Any) -> Metric:
    given = {"events": ["*"], "group_by": ["type", "data.size"], **fields}
    given.setdefault("windows", {"minute": "2d", "hour": "90d", "day": "5y", "month": "5y", "10m/1m": "2d"})
    (found,), complaints = declared({"orders": given})
    assert not complaints
    return found


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def zone_of(name: str) -> ZoneInfo | None:
    return ZoneInfo(name) if "/" in name or name == "UTC" else None


NOW = at("2026-11-25T12:34:56")


def ask(of: Metric, **asked: str) -> Question:
    asked = {name.replace("since", "from"): value for name, value in asked.items()}
    found = question(of, asked, NOW, zone_of)
    assert isinstance(found, Question), found
    return found


def complaints(asked: dict[str, str], of: Metric | None = None) -> dict[str, Problem]:
    found = question(of or metric(), asked, NOW, zone_of)
    assert isinstance(found, tuple)
    return {detail.field: detail.problem for detail in found}


def hours(since: int, until: int) -> list[Part]:
    """An event in each hour."""
    return [Part(start, '["a",1]', "count", 1) for start in range(since, until, HOUR)]


def test_without_a_word_it_is_the_last_sixty_of_the_first_window() -> None:
    found = ask(metric())
    assert (found.since, found.until) == (at("2026-11-25T11:35:00"), NOW + 1)
    assert ask(metric(windows={"month": "10y"}), window="month").since == at("2021-12-01")
    assert ask(metric(), window="day", tz="Asia/Seoul").since == at("2026-09-27", "Asia/Seoul")


def test_a_time_without_an_offset_is_of_the_zone_and_a_fraction_does_not_let_an_earlier_window_in() -> None:
    found = ask(metric(), window="hour", since="2026-11-20", to="2026-11-20T12:00:00.5", tz="Asia/Seoul")
    assert (found.since, found.until) == (at("2026-11-19T15:00"), at("2026-11-20T03:00:01"))
    found = ask(metric(), window="hour", since="2026-11-20T00:00:00Z", to="2026-11-20T05:00+05:00", tz="Asia/Seoul")
    assert (found.since, found.until) == (at("2026-11-20"), at("2026-11-20"))


def test_beyond_retention_and_in_the_future_there_is_nothing() -> None:
    found = ask(metric(), since="2001-01-01", to="2199-01-01")
    assert (found.since, found.until) == (at("2026-11-23T12:34:00"), NOW + 300)
    found = ask(metric(), since="2001-01-01", to="2002-01-01")
    assert found.since == found.until
    # Days of a zone are made of hours, which are kept for 90 days: the first whole day begins after that.
    days = ask(metric(), window="day", since="2026-01-01", tz="Asia/Seoul")
    assert days.since == NOW - 90 * DAY
    assert isinstance(days.frame, Local)
    assert next(days.frame.starts(days.since, days.until)) == at("2026-08-28", "Asia/Seoul")


def test_everything_wrong_is_named_at_once() -> None:
    asked = {"window": "year", "tz": "Mars", "from": "yesterday", "to": "0001-01-01T00:00+14:00", "fill": "yes"}
    assert complaints({**asked, "group[type]": "\0"}) == {
        "window": Problem.CHOICE, "tz": Problem.CHOICE, "from": Problem.PATTERN, "to": Problem.RANGE,
        "fill": Problem.CHOICE, "group[type]": Problem.NUL,
    }  # fmt: skip
    assert complaints({"from": "2026-02-01", "to": "2026-01-01"}) == {"from": Problem.RANGE}
    assert complaints({"from": "1999-12-31T23:59:59Z"}) == {"from": Problem.RANGE}
    assert ask(metric(), since="2000-01-01").since > EARLIEST


def test_a_group_is_asked_for_by_text_whatever_its_type() -> None:
    assert spellings("note") == ('"note"',)
    assert spellings("7") == ('"7"', "7")
    assert spellings("true") == ('"true"', "true")
    assert spellings('"7"') == ('"\\"7\\""', '"7"')
    assert spellings("[1]") == ('"[1]"',)
    # As they are stored, however they are written.
    assert spellings("1.0") == ('"1.0"', "1")
    assert spellings("1e30") == ('"1e30"', "1e+30")
    assert spellings("0.12345678901234567890") == ('"0.12345678901234567890"', "0.1234567890123456789")
    assert spellings('"\\u0061"') == ('"\\"\\\\u0061\\""', '"a"')
    assert ask(metric(), **{"group[data.size]": "7"}).where == {1: ('"7"', "7")}


@pytest.mark.parametrize(
    ("day", "length"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)]
)
def test_a_day_on_which_clocks_change_has_another_length(day: str, length: int) -> None:
    found = ask(metric(windows={"hour": "1y", "day": "5y"}), window="day", since="2026-03-01", tz="Europe/Berlin")
    start = at(day, "Europe/Berlin")
    cells = gathered(found.frame, hours(at("2026-03-01"), at("2026-11-01")), start, start + 1)
    ((_, _), of_group), *others = cells.items()
    assert not others
    assert len(of_group["count"]) == length


def test_months_of_a_zone_are_whole_across_a_change_of_clocks() -> None:
    of = metric(windows={"hour": "1y", "month": "5y"})
    found = ask(of, window="month", since="2026-03-01", to="2026-05-01", tz="Europe/Berlin")
    parts = hours(found.since, found.until)
    shown = lines(of, gathered(found.frame, parts, found.since, found.until))
    assert [(line.start, line.values["count"]) for line in shown] == [
        (at("2026-03-01", "Europe/Berlin"), 31 * 24 - 1),
        (at("2026-04-01", "Europe/Berlin"), 30 * 24),
    ]


@pytest.mark.parametrize("name", ["America/Sao_Paulo", "America/Havana", "Africa/Cairo", "Asia/Beirut", "Pacific/Apia"])
def test_days_follow_each_other_where_clocks_change_at_midnight_or_skip_a_day(name: str) -> None:
    zone = ZoneInfo(name)
    frame = Local(ask(metric(), window="day").frame, zone, HOUR)  # type: ignore[arg-type]
    since = at("2010-06-01", name)
    found = list(frame.starts(since, since + 900 * DAY))
    for start, after in pairwise(found):
        assert frame.end(start) == after
        assert frame.floor(after - 1) == frame.floor(start) == start
        assert after - start in (23 * HOUR, DAY, 25 * HOUR)
        before, there = (datetime.fromtimestamp(second, zone).date() for second in (start - 1, start))
        assert before < there


def test_days_whose_borders_no_pane_has_are_refused() -> None:
    asked = {"window": "day", "tz": "Asia/Kolkata"}
    hourly = metric(windows={"hour": "90d", "day": "5y"})
    assert complaints(asked, hourly) == {"tz": Problem.NO_LOCAL_DAYS}
    assert complaints({**asked, "tz": "Asia/Seoul"}, metric(windows={"day": "5y"})) == {"tz": Problem.NO_LOCAL_DAYS}
    found = ask(metric(windows={"30m": "90d", "day": "5y"}), **asked)
    assert isinstance(found.frame, Local)
    assert (found.frame.pane, found.since % DAY) == (1800, 18 * HOUR + 1800)
    # Hours are the same everywhere, and days of UTC are kept as such.
    assert not isinstance(ask(hourly, window="hour", tz="Asia/Kolkata").frame, Local)
    assert not isinstance(ask(hourly, window="day", tz="UTC").frame, Local)


def test_the_panes_that_are_kept_longest_make_the_days() -> None:
    found = ask(metric(windows={"minute": "100d", "hour": "90d", "day": "5y"}), window="day", tz="Asia/Seoul")
    assert isinstance(found.frame, Local)
    assert found.frame.pane == 60
