"""What people watch of a metric: the last windows of its table, kept up to date by totals as they come.

Totals are absolute and come in any order, twice, or again from the table itself. What a feed has of a row is newer
exactly if it counts more (`n` never falls), so whatever is put in, in whatever order, the board ends as the table.
"""

from datetime import UTC, datetime

import msgspec

from domain import windows
from domain.metrics import Metric
from domain.reports import Cells, Part
from domain.windows import Window

Key = tuple[int, str]
"""A window or a pane of a group: its beginning (seconds), and the group as it is stored."""
PART_BYTES = 600
"""What a part without a sketch takes in memory, about."""

_values = msgspec.json.Decoder(list[msgspec.Raw]).decode


class View(msgspec.Struct, frozen=True):
    """What of a metric is watched: the `last` windows of one kind, and only groups that have what is `wanted`.

    `wanted`: pairs of a place in `group_by` and the JSON of the values wanted there.
    """

    window: Window
    last: int
    wanted: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def since(self, now: int) -> int:
        """The beginning of the earliest window that is shown at `now`, seconds."""
        start = windows.floor(self.window.step, now)
        if self.window.step != windows.MONTH:
            return start - (self.last - 1) * self.window.step
        for _ in range(self.last - 1):
            start = windows.floor(windows.MONTH, start - 1)
        return start

    def shows(self, group: str) -> bool:
        """True if a group, as it is stored, has what is wanted."""
        if not self.wanted:
            return True
        values = [bytes(value).decode() for value in _values(group)]
        return all(place < len(values) and values[place] in wanted for place, wanted in self.wanted)


class Board:
    """The panes of a view, part by part of each feed, and what has changed since somebody last took it."""

    def __init__(self, metric: Metric, view: View, now: int) -> None:
        self.metric = metric
        self.view = view
        self.since = view.since(now)
        self.size = 0
        """Bytes that the parts take, about."""
        self._panes: dict[Key, dict[tuple[str, str], Part]] = {}
        self._changed: dict[Key, None] = {}

    def put(self, feed: str, part: Part) -> None:
        """What one feed has of a measure, unless something newer of it is known."""
        if part.start < self.since or not self.view.shows(part.group):
            return
        pane = self._panes.setdefault((part.start, part.group), {})
        before = pane.get((part.measure, feed))
        if before is not None and before.n >= part.n:
            return
        self.size += _size(part) - (0 if before is None else _size(before))
        pane[part.measure, feed] = part
        for start in windows.containing(self.view.window, part.start):
            if start >= self.since:
                self._changed[start, part.group] = None

    def advance(self, now: int) -> None:
        """Forget what is no longer among the last windows."""
        since = self.view.since(now)
        if since <= self.since:
            return
        self.since = since
        for key in [key for key in self._panes if key[0] < since]:
            self.size -= sum(map(_size, self._panes.pop(key).values()))
        for key in [key for key in self._changed if key[0] < since]:
            del self._changed[key]

    def take(self, most: int) -> Cells:
        """At most so many of the windows that have changed, each with all its parts; nothing if none has."""
        taken = [key for key, _ in zip(self._changed, range(most), strict=False)]
        cells: Cells = {}
        for start, group in taken:
            del self._changed[start, group]
            cell = cells[start, group] = {}
            for pane in self._panes_of(start):
                for (measure, _), part in self._panes.get((pane, group), {}).items():
                    cell.setdefault(measure, []).append(part)
        return cells

    def _panes_of(self, start: int) -> range | tuple[int]:
        window = self.view.window
        return range(start, start + window.size, window.step) if window.sliding else (start,)


def _size(part: Part) -> int:
    return PART_BYTES + len(part.sketch or b"")


def moment(second: int) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00") + "Z"
