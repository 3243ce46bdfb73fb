"""A table of metrics in memory, filled as stores/analytics.py fills the real one; and the same counted one by one."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from domain import sketches, windows
from domain.measures import Numbers, joined
from domain.metrics import COUNT, Kind, Measure, Metric
from domain.tables import (
    EARLIEST,
    EXPIRED,
    FUTURE,
    FUTURE_S,
    LATE,
    LATEST,
    Additions,
    Plan,
    Slot,
    Table,
    add_up,
    admitted,
)  # fmt: skip
from domain.values import OTHER

Cell = tuple[int, int, str, str]
"""Pane, start, group, measure."""


class Happened(msgspec.Struct, frozen=True):
    """An event as it stands in the log: attributes, the JSON text of its data, its time and the log's, seconds."""

    type: str
    source: str
    subject: str | None
    data: bytes | None
    time: int
    appended: int


def decoder(plan: Plan) -> Any:
    """What reads an event's data for the plan, as agents/analytics.py does."""
    return msgspec.json.Decoder((plan.data or dict[str, Raw]) | list[Raw] | str | int | float | bool | None)


class Memory:
    """The rows of one partition, and what is remembered from batch to batch."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.watermark = 0
        self.rows: dict[Cell, Numbers] = {}
        self.groups: Counter[tuple[int, int]] = Counter()
        self.dropped: Counter[tuple[str, int]] = Counter()
        self._plan = Plan([Table(1, metric)])
        self._kinds = {measure.name: measure.kind for measure in metric.all_measures}
        self._seen = msgspec.defstruct(
            "Seen", [("type", str), ("source", str), ("subject", str | None), ("data", Any)], frozen=True
        )
        self._data = decoder(self._plan)

    def batch(self, events: Sequence[Happened]) -> None:
        """Add a batch."""
        read = [
            self._seen(e.type, e.source, e.subject, None if e.data is None else self._data.decode(e.data))
            for e in events
        ]
        times = np.array([event.time for event in events], np.int64)
        appended = np.array([event.appended for event in events], np.int64)
        self.add(add_up(self._plan, read, times, appended, self.watermark))

    def add(self, additions: Additions) -> None:
        """Add what a batch adds."""
        self.watermark = additions.watermark
        for (_, reason, minute), n in additions.dropped.items():
            self.dropped[reason, minute] += n
        added: dict[tuple[Slot, str], Numbers] = {}
        homes = self._homes(additions)
        for slot, cell in additions.cells.items():
            home = Slot(slot.metric, slot.pane, slot.start, homes[slot])
            for measure, numbers in cell.items():
                before = added.get((home, measure))
                if before is None:
                    added[home, measure] = numbers
                elif measure == COUNT:
                    added[home, measure] = Numbers(before.n + numbers.n)
                else:
                    added[home, measure] = joined(self._kinds[measure], before, numbers)
        for (slot, measure), numbers in added.items():
            self._upsert((slot.pane, slot.start, slot.group, measure), numbers)

    def _homes(self, additions: Additions) -> dict[Slot, str]:
        wanted: dict[tuple[int, int], list[str]] = {}
        for slot in additions.cells:
            wanted.setdefault((slot.pane, slot.start), []).append(slot.group)
        homes: dict[Slot, str] = {}
        for (pane, start), groups in wanted.items():
            known = {group for group in groups if (pane, start, group, COUNT) in self.rows}
            before = self.groups[pane, start]
            places = admitted(groups, known, before, self.metric.groups)
            risen = sum(home == group and group not in known for group, home in places.items())
            self.groups[pane, start] += min(risen, max(self.metric.groups - before, 0))
            homes |= {Slot(1, pane, start, group): home for group, home in places.items()}
        return homes

    def _upsert(self, cell: Cell, numbers: Numbers) -> None:
        old = self.rows.get(cell)
        kind = self._kinds[cell[3]]
        if kind is Kind.TOP:
            sketch = sketches.top(numbers.top or {}, None if old is None else old.sketch)
            self.rows[cell] = Numbers(numbers.n + (old.n if old else 0), sketch=sketch)
        elif old is None:
            self.rows[cell] = numbers
        elif kind is Kind.COUNT:
            self.rows[cell] = Numbers(old.n + numbers.n)
        else:
            self.rows[cell] = joined(kind, old, numbers)

    @property
    def bits(self) -> dict[Cell, bytes]:
        """Every row as bytes, spelling of numbers included."""
        return {cell: msgspec.json.encode(numbers) for cell, numbers in self.rows.items()}


# -- the same, one event at a time, with no code of domain/tables.py ---------------------------------------------------


class Plain:
    """What the declaration says, taken word by word."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.watermark = 0
        self.counts: Counter[tuple[int, int, str]] = Counter()
        self.values: dict[Cell, list[Any]] = defaultdict(list)
        self.groups: dict[tuple[int, int], list[str]] = defaultdict(list)
        self.dropped: Counter[tuple[str, int]] = Counter()

    def event(self, event: Happened) -> None:
        """Count one event."""
        watermark, minute = self.watermark, event.appended - event.appended % 60
        wrong = event.time > event.appended + FUTURE_S or not EARLIEST <= event.time <= LATEST
        if not wrong:
            self.watermark = max(watermark, event.time)
        if not self.metric.matches(event.type):
            return
        if wrong:
            self.dropped[FUTURE, minute] += 1
            return
        if event.time + self.metric.lateness < watermark:
            self.dropped[LATE, minute] += 1
            return
        for path, allowed in self.metric.where:
            if spelt(value_at(event, path)) not in [spelt(plainly(value)) for value in allowed]:
                return
        for pane, keep in self.metric.panes().items():
            if event.time < event.appended - keep:
                self.dropped[EXPIRED, minute] += 1
                continue
            self._count(event, pane, windows.floor(pane, event.time))

    def _count(self, event: Happened, pane: int, start: int) -> None:
        group = "[" + ",".join(spelt(value_at(event, path)) for path in self.metric.group_by) + "]"
        there = self.groups[pane, start]
        if group not in there:
            if len(there) < self.metric.groups:
                there.append(group)
            else:
                group = json.dumps([OTHER] * len(self.metric.group_by), separators=(",", ":"))
        self.counts[pane, start, group] += 1
        for measure in self.metric.measures:
            value = value_at(event, measure.path)
            if measure.kind in (Kind.DISTINCT, Kind.TOP):
                if spelt(value) != "null":
                    self.values[pane, start, group, measure.name].append(spelt(value))
            elif isinstance(value, Decimal):
                self.values[pane, start, group, measure.name].append(value)

    def row(self, cell: Cell, measure: Measure) -> Numbers:
        """The row that the values of a cell make."""
        values = self.values[cell]
        if measure.kind is Kind.DISTINCT:
            hashed = sketches.hashes([value.encode() for value in values])
            return Numbers(len(values), sketch=sketches.distinct(hashed))
        if measure.kind is Kind.TOP:
            counts: dict[str, int] = {}
            others = 0
            for value in values:
                if value in counts or len(counts) < sketches.ROOM:
                    counts[value] = counts.get(value, 0) + 1
                else:
                    others += 1
            encode = msgspec.json.Encoder(order="deterministic").encode
            return Numbers(len(values), sketch=encode(sketches.Top(counts, others)))
        if measure.kind is Kind.PERCENTILES:
            return Numbers(len(values), sketch=sketches.percentiles(np.array([float(value) for value in values])))
        total = sum(values, Decimal())
        return Numbers(len(values), total, min(values), max(values))

    @property
    def bits(self) -> dict[Cell, bytes]:
        """As Memory.bits."""
        rows = {(*cell, COUNT): Numbers(n) for cell, n in self.counts.items()}
        measures = {measure.name: measure for measure in self.metric.measures}
        rows |= {cell: self.row(cell, measures[cell[3]]) for cell in list(self.values)}
        return {cell: msgspec.json.encode(numbers) for cell, numbers in rows.items()}


NOTHING_LIKE_IT = object()
"""A number out of bounds."""


def exactly(text: str) -> Any:
    """A number as it is written."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return NOTHING_LIKE_IT


def plainly(value: Any) -> Any:
    """A value that Python's JSON gave: numbers as Decimal in one spelling."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        found = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not found:
            return Decimal(0)
        digits = "".join(map(str, found.as_tuple().digits)).strip("0")
        return +found.normalize() if len(digits) <= 38 and abs(found.adjusted()) <= 30 else NOTHING_LIKE_IT
    return value


def value_at(event: Happened, path: str) -> Any:
    """The value at a path of an event."""
    if path in ("type", "source", "subject"):
        return getattr(event, path)
    found = None if event.data is None else json.loads(event.data, parse_float=exactly, parse_int=exactly)
    for name in path.split(".")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return plainly(found)


def spelt(value: Any) -> str:
    """The JSON of a value as a group has it."""
    if value is NOTHING_LIKE_IT:
        return f'"{OTHER}"'
    if value is None or isinstance(value, dict | list):
        return "null"
    if isinstance(value, Decimal):
        return f"{value:f}" if -7 < value.adjusted() < 20 else f"{value:e}"
    text: str = json.dumps(value, ensure_ascii=False)
    return text if len(text.encode()) <= 258 else f'"{OTHER}"'
