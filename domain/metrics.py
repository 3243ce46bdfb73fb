"""Live metrics as people declare them: which events, grouped by what, measured how, in which windows, kept how long.

A declaration is data (config/metrics.toml). This module turns it into `Metric`s or into every reason why not, each with
the place in the declaration that it is about. What the events then add up to is domain/tables.py.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import translate
from typing import Any

import msgspec

from domain import windows
from domain.windows import Window

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
PATH = re.compile(r"(?:type|source|subject|data(?:\.[^.\s]{1,64}){1,8})")
TYPES = re.compile(r"[A-Za-z0-9_.*-]{1,256}")
MOST_METRICS = 200
MOST_GROUP_BY = 8
MOST_MEASURES = 16
MOST_GROUPS = 100_000
DEFAULT_GROUPS = 1_000
DEFAULT_LATENESS = "1h"
MOST_TOP = 100
COUNT = "count"
"""The measure that every metric has: how many events."""
RESERVED = frozenset({COUNT, "start", "group", "type", "source", "subject", "data"})
"""What no measure can be named: other members and columns of the lines that people read are."""


class Kind(StrEnum):
    """How a measure adds events up. Of `count` and `distinct` any value will do; the others but `top` take numbers."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    DISTINCT = "distinct"
    PERCENTILES = "percentiles"
    TOP = "top"


NUMERIC = frozenset({Kind.SUM, Kind.MIN, Kind.MAX, Kind.MEAN})
SKETCHED = frozenset({Kind.DISTINCT, Kind.PERCENTILES, Kind.TOP})


class Measure(msgspec.Struct, frozen=True):
    """What is added up of the value at `path`. `at`: which percentiles (0 to 100); `most`: items of a `top`."""

    name: str
    kind: Kind
    path: str = ""
    at: tuple[float, ...] = ()
    most: int = 0


class Kept(msgspec.Struct, frozen=True):
    """A window of a metric, and how long it is kept, seconds."""

    window: Window
    keep: int


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric. Times in seconds. `groups`: the most in a window of a partition; those beyond are one, `__other__`."""

    name: str
    title: str
    events: tuple[str, ...]
    where: tuple[tuple[str, tuple[str | int | float | bool | None, ...]], ...] = ()
    group_by: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    windows: tuple[Kept, ...]
    lateness: int
    groups: int = DEFAULT_GROUPS
    public: bool = False
    """Whether everybody may see it; else only admins."""

    def matches(self, event_type: str) -> bool:
        """True if events of this type are counted."""
        return any(re.fullmatch(translate(pattern), event_type) for pattern in self.events)

    def panes(self) -> dict[int, int]:
        """The panes that are stored, each with the longest time that a window made of them is kept, seconds."""
        found: dict[int, int] = {}
        for kept in self.windows:
            keep = kept.keep + (kept.window.size if kept.window.sliding else 0)
            found[kept.window.pane] = max(found.get(kept.window.pane, 0), keep)
        return found

    def window(self, name: str) -> Kept | None:
        """The window of this name."""
        return next((kept for kept in self.windows if kept.window.name == name), None)

    @property
    def all_measures(self) -> tuple[Measure, ...]:
        """The declared ones, behind the count of events."""
        return (Measure(COUNT, Kind.COUNT), *self.measures)

    @property
    def shape(self) -> bytes:
        """What must not change while a table is added to: all but title, visibility, and how long it is kept."""
        return msgspec.json.encode(
            [
                sorted(self.events),
                sorted(self.where),
                self.group_by,
                sorted((m.name, m.kind, m.path) for m in self.measures),
                sorted(self.panes()),
                self.lateness,
                self.groups,
            ],
            order="deterministic",
        )


class Complaint(msgspec.Struct, frozen=True):
    """What is wrong with a declaration: the metric, the key in it (empty for the metric itself), and a sentence."""

    metric: str
    key: str
    text: str


class _Wrong(Exception):
    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


_KEYS = frozenset(
    {"title", "events", "where", "group_by", "measures", "windows", "lateness", "groups", "public"},
)


def declared(document: Mapping[str, Any]) -> tuple[tuple[Metric, ...], tuple[Complaint, ...]]:
    """The metrics of a declaration, and every complaint about it; there are metrics only without complaints."""
    metrics, complaints = [], []
    if len(document) > MOST_METRICS:
        complaints.append(Complaint("", "", f"there are {len(document)} metrics; allowed are {MOST_METRICS}"))
    for name, fields in document.items():
        try:
            metrics.append(_metric(name, fields))
        except _Wrong as wrong:
            complaints.append(Complaint(name, wrong.key, str(wrong)))
    return ((), tuple(complaints)) if complaints else (tuple(metrics), ())


def _metric(name: str, fields: Any) -> Metric:
    if not NAME.fullmatch(name):
        raise _Wrong(
            "", f"a metric is named by a-z 0-9 _ and begins with a letter, 63 characters at most, not {name!r}"
        )
    if not isinstance(fields, Mapping):
        raise _Wrong("", f"{name} must be a table: [{name}]")
    unknown = sorted(set(fields) - _KEYS)
    if unknown:
        raise _Wrong(unknown[0], f"{unknown[0]!r} is no field of a metric; there are {', '.join(sorted(_KEYS))}")
    return Metric(
        name=name,
        title=_text(fields, "title", name.replace("_", " ")),
        events=_events(fields),
        where=_where(fields),
        group_by=_paths(fields),
        measures=_measures(fields),
        windows=_windows(fields),
        lateness=_seconds("lateness", fields.get("lateness", DEFAULT_LATENESS)),
        groups=_whole("groups", fields.get("groups", DEFAULT_GROUPS), 1, MOST_GROUPS),
        public=_flag(fields),
    )


def _text(fields: Mapping[str, Any], key: str, default: str) -> str:
    found = fields.get(key, default)
    if not isinstance(found, str) or not 0 < len(found) <= 200:
        raise _Wrong(key, f"{key} must be a text of 1 to 200 characters")
    return found


def _flag(fields: Mapping[str, Any]) -> bool:
    found = fields.get("public", False)
    if not isinstance(found, bool):
        raise _Wrong("public", "public must be true or false")
    return found


def _whole(key: str, found: Any, low: int, high: int) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise _Wrong(key, f"{key} must be a whole number from {low} to {high}, not {found!r}")
    return found


def _seconds(key: str, found: Any) -> int:
    try:
        return windows.seconds_of(found if isinstance(found, str) else repr(found))
    except ValueError as error:
        raise _Wrong(key, f"{key}: {error}") from None


def _events(fields: Mapping[str, Any]) -> tuple[str, ...]:
    found = fields.get("events")
    if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
        raise _Wrong("events", 'events must be a list of event types, such as ["order.placed", "order.*"]')
    for item in found:
        if not TYPES.fullmatch(item):
            raise _Wrong("events", f"{item!r} is no event type; it has A-Z a-z 0-9 _ . - and * for anything")
    return tuple(found)


def _path(key: str, found: Any) -> str:
    if not isinstance(found, str) or not PATH.fullmatch(found):
        raise _Wrong(key, f"{found!r} is no path; it is type, source, subject, or data.field (also data.field.inner)")
    return found


def _paths(fields: Mapping[str, Any]) -> tuple[str, ...]:
    found = fields.get("group_by", [])
    if not isinstance(found, list) or len(found) > MOST_GROUP_BY:
        raise _Wrong("group_by", f"group_by must be a list of paths, {MOST_GROUP_BY} at most")
    paths = tuple(_path("group_by", item) for item in found)
    if len(set(paths)) != len(paths):
        raise _Wrong("group_by", "group_by names a path twice")
    return paths


def _where(fields: Mapping[str, Any]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    found = fields.get("where", {})
    if not isinstance(found, Mapping):
        raise _Wrong("where", 'where must be a table of paths and values: { "data.kind" = "note" }')
    conditions = []
    for path, values in found.items():
        listed = tuple(values) if isinstance(values, list) else (values,)
        if not listed or not all(isinstance(value, str | int | float | bool) for value in listed):
            raise _Wrong("where", f"the values of {path!r} must be texts, numbers, true or false")
        for value in listed:
            if not _comparable(value):
                raise _Wrong(
                    "where",
                    f"{path!r}: no value of an event is like {str(value)[:40]!r}; a text has 256 bytes at most, and a "
                    f"number is 0 or from 1e-30 to 1e30",
                )
        conditions.append((_path("where", path), listed))
    return tuple(conditions)


def _comparable(value: str | float) -> bool:
    # What domain/values.py has a spelling for.
    if isinstance(value, str):
        return len(msgspec.json.encode(value)) <= 258
    return not value or (math.isfinite(value) and 1e-30 <= abs(value) <= 1e30)


def _windows(fields: Mapping[str, Any]) -> tuple[Kept, ...]:
    found = fields.get("windows")
    if not isinstance(found, Mapping) or not found:
        raise _Wrong("windows", 'windows must say which and how long: { minute = "2d", hour = "90d" }')
    kept = []
    for name, keep in found.items():
        try:
            window = windows.parse(name)
        except ValueError as error:
            raise _Wrong("windows", f"windows: {error}") from None
        seconds = _seconds("windows", keep)
        if seconds < (31 * windows.DAY if window.size == windows.MONTH else window.size):
            raise _Wrong("windows", f"windows: {name} is kept for {keep}, shorter than the window itself")
        kept.append(Kept(window, seconds))
    return tuple(kept)


def _measures(fields: Mapping[str, Any]) -> tuple[Measure, ...]:
    found = fields.get("measures", {})
    if not isinstance(found, Mapping) or len(found) > MOST_MEASURES:
        raise _Wrong("measures", f"measures must be a table, {MOST_MEASURES} at most")
    return tuple(_measure(name, how) for name, how in found.items())


def _measure(name: str, how: Any) -> Measure:
    kinds = [kind for kind in Kind if kind is not Kind.COUNT]
    if not NAME.fullmatch(name) or name in RESERVED:
        allowed = f"a-z 0-9 _, and is none of {', '.join(sorted(RESERVED))}"
        raise _Wrong(name, f"a measure is named by {allowed}; not {name!r}")
    chosen = [kind for kind in kinds if isinstance(how, Mapping) and kind.value in how]
    if len(chosen) != 1:
        raise _Wrong(name, f'{name} must say one of {", ".join(kinds)}: {{ sum = "data.total" }}')
    kind, options = chosen[0], dict(how)
    path = _path(name, options.pop(kind.value))
    at: tuple[float, ...] = ()
    most = 0
    if kind is Kind.PERCENTILES:
        given = options.pop("at", [50, 95, 99])
        if not isinstance(given, list) or not given or not all(_is_percentile(item) for item in given):
            raise _Wrong(name, f"{name}: at must be a list of percentiles from 0 to 100")
        at = tuple(float(item) for item in given)
        if len(set(at)) < len(at) or any(float(f"{percent:g}") != percent for percent in at):
            # Columns are named by them.
            raise _Wrong(name, f"{name}: at must be different percentiles with six digits at most, such as 99.999")
    if kind is Kind.TOP:
        most = _whole(name, options.pop("most", 10), 1, MOST_TOP)
    if options:
        raise _Wrong(name, f"{name}: {next(iter(options))!r} is nothing that {kind.value} takes")
    return Measure(name, kind, path, at, most)


def _is_percentile(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool) and 0 <= item <= 100
