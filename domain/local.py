"""Days and months of a time zone, made of panes that are shorter than a day.

A day is 23 or 25 hours long where clocks change. What is stored stands in panes of UTC, so that a zone's days are exact
only where each of them begins at the border of a pane: a pane of an hour will do for Seoul, and not for Kolkata.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from domain.metrics import Metric
from domain.windows import DAY, MONTH, Window


class Local(msgspec.Struct, frozen=True):
    """A day or a month of a zone. `pane`: the length of the panes that it is made of, seconds."""

    window: Window
    zone: ZoneInfo
    pane: int

    def floor(self, second: int) -> int:
        """The beginning of the local day or month that `second` belongs to."""
        day = datetime.fromtimestamp(second, self.zone).date()
        return self._midnight(day.replace(day=1) if self.window.size == MONTH else day)

    def end(self, start: int) -> int:
        """The end (excluded) of the one that begins at `start`."""
        day = datetime.fromtimestamp(start, self.zone).date()
        if self.window.size == MONTH:
            return self._midnight((day.replace(day=1) + timedelta(days=32)).replace(day=1))
        return self._midnight(day + timedelta(days=1))

    def starts(self, since: int, until: int) -> Iterator[int]:
        """The beginnings of those that begin from `since` (included) to `until` (excluded)."""
        start = self.floor(since)
        while start < until:
            if start >= since:
                yield start
            start = self.end(start)

    def _midnight(self, day: date) -> int:
        # Where clocks skip midnight, `fold=0` gives the moment at which they do; where it comes twice, the first.
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp())


def localized(metric: Metric, window: Window, zone: ZoneInfo, since: int, until: int) -> Local | None:
    """Days or months of `zone` from `since` to `until`, of the panes that the metric keeps longest; None without such.

    Panes will do if each local day of that time begins where one of them does.
    """
    days = Local(Window("day", DAY, DAY), zone, DAY)
    borders = [*days.starts(since, until), days.end(days.floor(max(since, until - 1)))]
    panes = metric.panes()
    fit = [
        pane for pane in panes if 0 < pane < DAY and all(border % pane == 0 for border in borders)
    ]  # in the order of the declaration
    pane = max(fit, key=lambda pane: (panes[pane], pane), default=None)
    return None if pane is None else Local(window, zone, pane)


def has_local_days(window: Window) -> bool:
    """True if windows of this kind are a zone's own: tumbling days and months."""
    return not window.sliding and window.size in (DAY, MONTH)
