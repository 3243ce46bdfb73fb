"""What a batch of events adds to the tables of the metrics. Pure: the same events in the same order add the same.

    events of one partition, in order → times → watermark → for each metric: who counts → groups → cells

Nothing here depends on where one batch ends and the next begins: a table that is built again from the log is the same
to the bit. What depends on the order of events (which ones are late, which groups found room) depends on their order
within a partition only, and on the time at which the log took them, never on a clock of ours.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import localcontext
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from domain import windows
from domain.measures import EXACT, Numbers, added_up, joined
from domain.metrics import COUNT, Metric
from domain.values import LONGEST_CACHED, NULL, OTHER, inside, of_text, scalar, spell

FUTURE_S = 300
"""An event whose time is further ahead of the log's than this, seconds, is of a wrong clock: it is in no window."""
LONGEST_GROUP_CACHED = 256
"""Bytes of a group that is remembered as it is stored, so that strangers' groups never fill the memory."""
EARLIEST, LATEST = 946_684_800, 7_258_118_400
"""The years 2000 and 2200, seconds since 1970."""
LATE, FUTURE, EXPIRED = "late", "future", "expired"
"""Why an event is in no window of a metric: behind the watermark by more than the metric's lateness, ahead of the log
by more than FUTURE_S, older than its window is kept."""


class Slot(msgspec.Struct, frozen=True):
    """A row of a table, but for the partition. `group`: a JSON list with a value for each path of `group_by`."""

    metric: int
    pane: int
    start: int
    group: str


class Additions(msgspec.Struct):
    """What the events of one partition add, slots in the order in which they came first."""

    watermark: int
    cells: dict[Slot, dict[str, Numbers]] = {}
    dropped: Counter[tuple[int, str, int]] = msgspec.field(default_factory=Counter)
    """Events in no window: by metric, reason, and the minute in which the log took them."""


class Table(msgspec.Struct, frozen=True):
    """A metric that is added to, under the number of its version."""

    id: int
    metric: Metric


class Plan:
    """What to read of events, and what to do with them, made once from the tables that are added to."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tuple(tables)
        paths = {path for table in tables for path in _paths_of(table.metric)}
        members = sorted({path.split(".")[1] for path in paths if path.startswith("data.")})
        data: Any = None
        if members:
            # Undecoded: a group's value is decoded once for each value, not once for each event.
            fields = [
                (f"f{n}", Raw | UnsetType, msgspec.field(default=UNSET, name=name)) for n, name in enumerate(members)
            ]
            data = msgspec.defstruct("Data", fields, frozen=True, gc=False)
        self.data = data
        """The type of an event's data with what the metrics look at; None if they look at none of it."""
        self._member = {name: f"f{n}" for n, name in enumerate(members)}
        self.counted = tuple(_Counted(table, self) for table in tables)

    def column(self, path: str) -> Callable[[Sequence[Any]], list[bytes]]:
        """As `reader`, for many events at once."""
        if path.startswith("data."):
            read = self.reader(path)
            return lambda events: [read(event) for event in events]
        of = attrgetter(path)

        def column(events: Sequence[Any]) -> list[bytes]:
            texts = list(map(of, events))
            spelt = {text: of_text(text) for text in set(texts)}
            return [spelt[text] for text in texts]

        return column

    def reader(self, path: str) -> Any:
        """Gives the JSON bytes of the value at `path` of an event; null where there is none."""
        first, _, rest = path.partition(".")
        if first != "data":
            of = attrgetter(first)
            return lambda event: of_text(of(event))
        name, *inner = rest.split(".")
        member, within = self._member[name], tuple(inner)

        def read(event: Any) -> bytes:
            raw = getattr(event.data, member, UNSET)
            if raw is UNSET:
                return NULL
            value = bytes(raw)
            if within:
                value = inside(value, within)
            return value if len(value) <= LONGEST_CACHED else spell(value)

        return read


def _paths_of(metric: Metric) -> Iterable[str]:
    yield from metric.group_by
    yield from (path for path, _ in metric.where)
    yield from (measure.path for measure in metric.measures)


class _Counted:
    """How one table counts: its paths as readers."""

    def __init__(self, table: Table, plan: Plan) -> None:
        metric = table.metric
        self.table = table
        self._wants: dict[str, bool] = {}
        self.panes = metric.panes()
        self.where = tuple((plan.reader(path), frozenset(map(_spelt, values))) for path, values in metric.where)
        self.groups = tuple(plan.column(path) for path in metric.group_by)
        self.measures = tuple((measure, plan.reader(measure.path)) for measure in metric.measures)

    def wants(self, event_type: str) -> bool:
        """True if events of this type are counted."""
        found = self._wants.get(event_type)
        if found is None:
            if len(self._wants) >= 10_000:  # strangers name types
                self._wants.clear()
            found = self._wants[event_type] = self.table.metric.matches(event_type)
        return found

    def keys(self, events: Sequence[Any]) -> list[tuple[bytes, ...]]:
        """The undecoded group of each event."""
        if not self.groups:
            return [()] * len(events)
        return list(zip(*(column(events) for column in self.groups), strict=True))


def _spelt(value: Any) -> bytes:
    return scalar(msgspec.json.encode(value))


def group_of(key: tuple[bytes, ...]) -> str:
    """A group as it is stored."""
    return _group(key) if sum(map(len, key)) <= LONGEST_GROUP_CACHED else _spelt_group(key)


def _spelt_group(key: tuple[bytes, ...]) -> str:
    return (b"[" + b",".join(map(scalar, key)) + b"]").decode()


_group = lru_cache(maxsize=65_536)(_spelt_group)


def _wrong_clock(times: Any, appended: Any) -> Any:
    # What no calendar of ours reaches is of a wrong clock, too.
    return (times > appended + FUTURE_S) | (times < EARLIEST) | (times > LATEST)


def latest(times: Any, appended: Any) -> int:
    """The latest time of these events, seconds, as the watermark has it; 0 if all are of wrong clocks."""
    return int(np.where(_wrong_clock(times, appended), 0, times).max(initial=0))


def add_up(plan: Plan, events: Sequence[Any], times: Any, appended: Any, watermark: int) -> Additions:
    """What events of one partition add, in their order.

    `times` and `appended` (int64 arrays): when each happened and when the log took it, seconds. `watermark`: the latest
    time before them. An event has `type`, `source`, `subject` and `data` (of `plan.data`, or anything else).
    """
    future = _wrong_clock(times, appended)
    # The watermark as each event finds it: the latest time of those before it.
    marks = np.maximum.accumulate(np.concatenate([[watermark], np.where(future, watermark, times)]))
    additions = Additions(int(marks[-1]))
    found, none = marks[:-1], not future.any()
    types = [event.type for event in events]
    different = set(types)
    with localcontext(prec=EXACT):
        for counted in plan.counted:
            wanted = {name for name in different if counted.wants(name)}
            if not wanted:
                continue
            # In the order of the log, whatever the types: which groups find room depends on it.
            chosen = np.arange(len(types))
            if wanted != different:
                chosen = chosen[[name in wanted for name in types]]
            if not none:
                chosen = _drop(additions, counted, FUTURE, chosen, future[chosen], appended)
            late = times[chosen] + counted.table.metric.lateness < found[chosen]
            if late.any():
                chosen = _drop(additions, counted, LATE, chosen, late, appended)
            _add(additions, counted, events, chosen, times, appended)
    return additions


def _drop(additions: Additions, counted: _Counted, reason: str, chosen: Any, which: Any, appended: Any) -> Any:
    """Count those of the chosen that are in no window; returns the others."""
    minutes, counts = np.unique(appended[chosen[which]] // windows.MINUTE * windows.MINUTE, return_counts=True)
    for minute, count in zip(minutes.tolist(), counts.tolist(), strict=True):
        additions.dropped[counted.table.id, reason, minute] += count
    return chosen[~which]


def _add(additions: Additions, counted: _Counted, events: Any, chosen: Any, times: Any, appended: Any) -> None:
    picked = events if len(chosen) == len(events) else [events[at] for at in chosen.tolist()]
    for read, allowed in counted.where:
        fits = [scalar(read(event)) in allowed for event in picked]
        if not all(fits):
            chosen = chosen[np.array(fits, bool)]
            picked = [event for event, fit in zip(picked, fits, strict=True) if fit]
    keys = counted.keys(picked)
    for pane, keep in counted.panes.items():
        old = times[chosen] < appended[chosen] - keep
        if old.any():
            _drop(additions, counted, EXPIRED, chosen, old, appended)
            kept = np.flatnonzero(~old).tolist()
            seconds, of_pane, kept_events = times[chosen][kept], [keys[at] for at in kept], [picked[at] for at in kept]
        else:
            seconds, of_pane, kept_events = times[chosen], keys, picked
        if of_pane:
            starts = _starts(pane, seconds)
            _count(additions, counted, pane, starts, of_pane)
            _measure(additions, counted, pane, starts, of_pane, kept_events)


def _starts(pane: int, seconds: Any) -> list[int]:
    if pane != windows.MONTH:
        starts: list[int] = (seconds - seconds % pane).tolist()
        return starts
    calendar = windows.Calendar(pane, int(seconds.min()), int(seconds.max()))
    return [calendar.start(second) for second in seconds.tolist()]


def _count(
    additions: Additions, counted: _Counted, pane: int, starts: list[int], keys: list[tuple[bytes, ...]]
) -> None:
    cells, id = additions.cells, counted.table.id
    for (start, key), count in Counter(zip(starts, keys, strict=True)).items():
        cell = cells.setdefault(Slot(id, pane, start, group_of(key)), {})
        numbers = cell.get(COUNT)
        if numbers is None:
            numbers = cell[COUNT] = Numbers()
        numbers.n += count


def _measure(
    additions: Additions, counted: _Counted, pane: int, starts: list[int], keys: list[tuple[bytes, ...]],
    events: list[Any],
) -> None:  # fmt: skip
    for measure, read in counted.measures:
        gathered: dict[tuple[int, tuple[bytes, ...]], list[tuple[int, bytes]]] = {}
        for at, (start, key, event) in enumerate(zip(starts, keys, events, strict=True)):
            value = read(event)
            if value != NULL:
                gathered.setdefault((start, key), []).append((at, value))
        for (start, key), values in gathered.items():
            added = added_up(measure.kind, values)
            if added is None:
                continue
            cell = additions.cells[Slot(counted.table.id, pane, start, group_of(key))]
            before = cell.get(measure.name)
            cell[measure.name] = added if before is None else joined(measure.kind, before, added)


def admitted(groups: Sequence[str], known: set[str], there: int, most: int) -> dict[str, str]:
    """Where each of these groups goes, in the order in which they came: itself while there is room, else OTHER.

    `known`: those of them that are there already; `there`: how many are, in all.
    """
    places = {}
    for group in groups:
        if group in known or there < most:
            there += group not in known
            places[group] = group
        else:
            places[group] = other_group(group)
    return places


def other_group(group: str) -> str:
    """The group that stands for those without room: OTHER for each value."""
    return msgspec.json.encode([OTHER] * len(msgspec.json.decode(group))).decode()
