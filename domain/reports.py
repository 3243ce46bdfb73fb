"""From the rows of a metric's table to what people ask for: windows, gaps filled, values of measures.

Panes of all feeds come in; a window is what its panes add up to. Sums, counts, minima and maxima are exact; distinct
values and percentiles are within the accuracy of domain/sketches.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import msgspec

from domain import sketches, windows
from domain.local import Local
from domain.measures import EXACT
from domain.metrics import COUNT, Kind, Measure, Metric
from domain.values import OTHER
from domain.windows import Window


class Part(msgspec.Struct, frozen=True):
    """What one feed has of a measure, of a group, in the pane that begins at `start` (seconds)."""

    start: int
    group: str
    measure: str
    n: int
    total: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    sketch: bytes | None = None


class Line(msgspec.Struct, frozen=True):
    """A window of a group as it is shown. `values`: by measure.

    A value is a number (int or Decimal, exact), an estimate (int or float), a dict of percentiles, a list of
    {"value" (JSON), "count"}, or None where nothing was measured.
    """

    start: int
    group: str
    """As it is stored: a JSON list with a value for each path of `group_by`. As values of Python 1 and true would be
    equal, and so would decimals that are the same double."""
    values: dict[str, Any]

    @property
    def group_values(self) -> list[msgspec.Raw]:
        """The JSON of the value for each path."""
        return _listed(self.group)


_listed = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OTHERS = msgspec.json.encode(OTHER).decode()
NO_GROUP = "[]"
"""The group of a metric that has no `group_by`."""
Cells = dict[tuple[int, str], dict[str, list[Part]]]


Frame = Window | Local
"""How time is divided: by a window of UTC, or by the days or months of a zone."""


def gathered(frame: Frame, parts: Iterable[Part], since: int, until: int) -> Cells:
    """The parts of each window that begins from `since` (included) to `until` (excluded), by group and measure."""
    cells: Cells = {}
    homes: dict[int, list[int]] = {}
    for part in parts:
        found = homes.get(part.start)
        if found is None:
            found = homes[part.start] = containing(frame, part.start)
        for start in found:
            if since <= start < until:
                cells.setdefault((start, part.group), {}).setdefault(part.measure, []).append(part)
    return cells


def lines(metric: Metric, cells: Cells) -> list[Line]:
    """The windows in order: by time, then by group."""
    return [Line(start, group, values(metric.all_measures, cells[start, group])) for start, group in sorted(cells)]


def values(measures: Sequence[Measure], parts: Mapping[str, Sequence[Part]]) -> dict[str, Any]:
    """What each measure comes to."""
    with localcontext(prec=EXACT):
        return {measure.name: value(measure, parts.get(measure.name, ())) for measure in measures}


def value(measure: Measure, parts: Sequence[Part]) -> Any:
    """What a measure comes to, of all its parts; None of nothing, and 0 of no events."""
    n = sum(part.n for part in parts)
    sketched = [part.sketch for part in parts if part.sketch is not None]
    match measure.kind:
        case Kind.COUNT:
            return n
        case Kind.DISTINCT:
            return sketches.estimate_distinct(sketches.merge_distinct(sketched))
        case Kind.TOP:
            return _top(sketched, measure.most)
        case Kind.PERCENTILES:
            found = sketches.estimate_percentiles(sketches.merge_percentiles(sketched), measure.at)
            return {f"p{percent:g}": _rounded(each) for percent, each in zip(measure.at, found, strict=True)}
    if not n:
        return Decimal() if measure.kind is Kind.SUM else None
    total = sum((part.total for part in parts if part.total is not None), Decimal())
    match measure.kind:
        case Kind.SUM:
            return total
        case Kind.MIN:
            return min(part.low for part in parts if part.low is not None)
        case Kind.MAX:
            return max(part.high for part in parts if part.high is not None)
        case _:
            return round(total / n, 12).normalize()


def _rounded(found: float | None) -> float | None:
    # More digits than these say nothing: the value is within 1 %.
    return None if found is None else float(f"{found:.6g}")


def _top(sketched: Sequence[bytes], most: int) -> list[dict[str, Any]]:
    whole = sketches.merge_top(sketched)
    first = sorted(whole.counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    if whole.others:
        first.append((_OTHERS, whole.others))
    return [{"value": msgspec.Raw(text.encode()), "count": count} for text, count in first]


def filled(metric: Metric, frame: Frame, found: Sequence[Line], since: int, until: int) -> list[Line]:
    """The same with a line of nothing for each group in each window that has none, up to `until`."""
    groups = sorted({line.group for line in found}) or ([NO_GROUP] if not metric.group_by else [])
    there = {(line.start, line.group): line for line in found}
    empty = values(metric.all_measures, {})
    return [
        there.get((start, group)) or Line(start, group, empty)
        for start in starts(frame, since, until)
        for group in groups
    ]


def containing(frame: Frame, second: int) -> list[int]:
    """The beginnings of the windows that `second` belongs to, the earliest first."""
    return [frame.floor(second)] if isinstance(frame, Local) else windows.containing(frame, second)


def starts(frame: Frame, since: int, until: int) -> Iterator[int]:
    """The beginnings of the windows that begin from `since` (included) to `until` (excluded)."""
    return frame.starts(since, until) if isinstance(frame, Local) else windows.starts(frame.pane, since, until)


def reach(frame: Frame, until: int) -> int:
    """The end (excluded) of the last pane of the windows that begin before `until`."""
    if isinstance(frame, Local):
        return frame.end(frame.floor(until - 1))
    return until + (frame.size - frame.step if frame.sliding else 0)


__all__ = ["COUNT", "Frame", "Line", "Part", "filled", "gathered", "lines", "reach", "starts", "value", "values"]
