"""What somebody watches of a metric, and each reader of it: what it has not been sent yet."""

import asyncio
from collections.abc import Mapping

from domain import boards, renderings, reports
from domain.boards import Board, View
from domain.questions import ZONE_UTC
from domain.reports import Line, Part
from domain.tables import Table
from stores.totals import Row

MOST_PENDING = 5_000
"""Changed rows that may wait for a slow reader."""
CHUNK = 200
"""Windows that are worked out in one piece."""


class Watcher:
    """One reader: what it has not been sent yet."""

    def __init__(self, seen: "Seen") -> None:
        self.seen = seen
        self.snapshot = True
        """Whether everything is to be sent instead of changes."""
        self.pending: dict[boards.Key, bytes] = {}
        self.sent = 0
        """Events that it was sent."""
        self.end = ""
        """Why it ends, as the name of its last event; empty while it goes on."""
        self.woken = asyncio.Event()
        self.patience: asyncio.Timeout | None = None
        """What bounds the write that goes on."""

    def offer(self, rows: Mapping[boards.Key, bytes]) -> None:
        """Changed rows, the latest of each; a reader that takes none while too many gather is cut."""
        if self.snapshot or not rows:
            return
        behind = bool(self.pending)
        self.pending |= rows
        if behind and len(self.pending) > MOST_PENDING:
            self.cut("too_slow")
        self.woken.set()

    def again(self) -> None:
        """Everything anew."""
        self.pending.clear()
        self.snapshot = True
        self.woken.set()

    def cut(self, why: str) -> None:
        """The next event is the last one; a write that waits for the reader is given up."""
        if not self.end:
            self.end = why
            self.pending.clear()
            self.woken.set()
            if self.patience is not None:
                self.patience.reschedule(asyncio.get_running_loop().time())


class Seen:
    """A view that somebody watches: its board, and its rows as JSON."""

    def __init__(self, table: Table, view: View, now: int) -> None:
        self.table = table
        self.board = Board(table.metric, view, now)
        self.rows: dict[boards.Key, bytes] = {}
        self.watchers: set[Watcher] = set()
        self.users = 0
        """Watchers, and those who wait until it is read."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, row: Row) -> None:
        """A total, from PostgreSQL or from Redis."""
        slot = row.slot
        if slot.metric == self.table.id and slot.pane == self.board.view.window.pane:
            part = Part(slot.start, slot.group, row.measure, row.n, row.total, row.low, row.high, row.sketch)
            self.board.put(row.feed, part)

    async def work_out(self, now: int) -> dict[boards.Key, bytes]:
        """The rows that have changed, as they are now. In pieces and in a thread: others want to be answered, too."""
        self.board.advance(now)
        for key in [key for key in self.rows if key[0] < self.board.since]:
            del self.rows[key]
        changed: dict[boards.Key, bytes] = {}
        while cells := self.board.take(CHUNK):
            changed |= await asyncio.to_thread(_documents, self.table, cells)
        self.rows |= changed
        return changed

    def cut(self, why: str) -> None:
        """The end for all who watch it."""
        for watcher in self.watchers:
            watcher.cut(why)

    def everything(self) -> list[tuple[boards.Key, bytes]]:
        """All rows, by time and group."""
        return sorted(self.rows.items())


def _documents(table: Table, cells: reports.Cells) -> dict[boards.Key, bytes]:
    lines: list[Line] = reports.lines(table.metric, cells)
    return {(line.start, line.group): renderings.as_json(table.metric, line, ZONE_UTC) for line in lines}
