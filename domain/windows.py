"""Windows of event time: which one a moment belongs to, and how windows are made of panes.

A pane is what is stored: a tumbling window that holds all its events once. A tumbling window is one pane; a sliding one
of 10 minutes that moves by 1 minute is ten panes of a minute, added up when somebody looks. All times are whole
seconds since 1970, UTC; a month is the calendar's.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

MINUTE, HOUR, DAY = 60, 3600, 86_400
MONTH = -1
"""Length of a pane that is a calendar month."""
NAMED = {"minute": MINUTE, "hour": HOUR, "day": DAY, "month": MONTH}
_UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY, "y": 365 * DAY}
_LENGTH = re.compile(r"([1-9][0-9]{0,5})([smhdwy])")
LONGEST_S = 10 * 365 * DAY
MOST_PANES = 1440
"""Panes that a sliding window may be made of."""


class Window(msgspec.Struct, frozen=True):
    """A window by its name. `size` and `step` in seconds, equal for a tumbling one; both are MONTH for a month."""

    name: str
    size: int
    step: int

    @property
    def pane(self) -> int:
        """The length of its panes, seconds, or MONTH."""
        return self.step

    @property
    def sliding(self) -> bool:
        """True if it is made of several panes."""
        return self.size != self.step


def seconds_of(text: str) -> int:
    """A length such as `90s`, `10m`, `1h`, `7d`, `2w`, `1y` in seconds. Raises ValueError with what is allowed."""
    matched = _LENGTH.fullmatch(text)
    found = int(matched[1]) * _UNITS[matched[2]] if matched else 0
    if not 0 < found <= LONGEST_S:
        raise ValueError(f"{text!r} is no length of time; write 30s, 10m, 1h, 7d, 2w or 1y, up to 10y")
    return found


def parse(name: str) -> Window:
    """A window from its name: minute, hour, day, month, a length (`5m`, tumbling), or two (`10m/1m`, sliding).

    Raises ValueError with what is allowed.
    """
    if name in NAMED:
        return Window(name, NAMED[name], NAMED[name])
    first, slash, second = name.partition("/")
    size = seconds_of(first)
    step = seconds_of(second) if slash else size
    if step > size or size % step or size // step > MOST_PANES:
        raise ValueError(f"{name!r}: the size must be a whole multiple of the step, {MOST_PANES} at most")
    if DAY % step if step < DAY else step % DAY:
        raise ValueError(f"{name!r}: the step must divide a day, or be whole days")
    return Window(name, size, step)


def floor(pane: int, second: int) -> int:
    """The beginning of the pane that `second` belongs to."""
    if pane == MONTH:
        moment = datetime.fromtimestamp(second, UTC)
        return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp())
    return second - second % pane


def end(pane: int, start: int) -> int:
    """The end (excluded) of the pane that begins at `start`."""
    if pane == MONTH:
        moment = datetime.fromtimestamp(start, UTC)
        year, month = (moment.year, moment.month + 1) if moment.month < 12 else (moment.year + 1, 1)
        return int(datetime(year, month, 1, tzinfo=UTC).timestamp())
    return start + pane


def starts(pane: int, since: int, until: int) -> Iterator[int]:
    """The beginnings of the panes that begin from `since` (included) to `until` (excluded)."""
    start = floor(pane, since)
    while start < until:
        if start >= since:
            yield start
        start = end(pane, start)


def containing(window: Window, second: int) -> list[int]:
    """The beginnings of the windows that `second` belongs to, the earliest first; one unless it slides."""
    if not window.sliding:
        return [floor(window.pane, second)]
    last = floor(window.step, second)
    return list(range(last - window.size + window.step, last + window.step, window.step))


class Calendar:
    """Finds panes quickly for many moments: the borders of a span of time, looked up by bisection."""

    def __init__(self, pane: int, since: int, until: int) -> None:
        """For moments from `since` to `until`, both included."""
        self._starts = [floor(pane, since), *starts(pane, since, until + 1)]

    def start(self, second: int) -> int:
        """The beginning of the pane that `second` belongs to."""
        return self._starts[bisect_right(self._starts, second) - 1]
