"""Those who watch live tables: one channel for each metric in a process, whatever the number of watchers.

    channel opened → rows read from PostgreSQL → totals from the channel, merged → changed rows once a second to each

What Redis loses is found by reading the rows again: when the channel was interrupted, and every REFRESH_S. While there
is no Redis they are read every AWAY_S.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from domain.boards import View
from domain.tables import Table
from stores import StoresAway
from stores.live import Changes, RedisAway
from stores.selecting import TooMany
from stores.totals import Row
from telemetry import metrics
from web.views import Seen, Watcher

log = logging.getLogger("yeoul.web.watchers")

MOST_WATCHERS = 500
"""Watchers of one process; more are sent away."""
MOST_ROWS = 50_000
"""Rows of a table (a feed, a measure) that a view may be made of."""
MOST_BYTES = 64 * 1024 * 1024
"""What the rows of a view may take."""
MOST_BYTES_IN_ALL = 256 * 1024 * 1024
"""What the rows of all views of a process may take."""
EVERY_S = 1.0
"""Watchers are told at most this often."""
REFRESH_S, AWAY_S = 15.0, 2.0
AGAIN_S = 0.5
OPENING_S = 1.5
"""How long the first watcher of a metric waits for its channel; without Redis the rows are read all the same."""


class Full(Exception):
    """There are as many watchers as this process takes."""


class Store(Protocol):
    """What is watched; see stores/watching.py."""

    async def tables(self) -> dict[str, Table]:
        """The tables that serve, by the names of their metrics. Raises StoresAway."""

    async def rows(self, table: Table, view: View, since: int, most: int) -> list[Row]:
        """The rows of the view's panes from `since` on. Raises StoresAway, TooMany."""

    def listen(self, metric: str) -> AsyncIterator[Changes | None]:
        """None once the channel is open, then changes. Raises RedisAway."""


class Broadcast:
    """A metric that somebody watches: its channel, and the views of it."""

    def __init__(self, store: Store, table: Table, clock: Callable[[], float], taken: Callable[[], int]) -> None:
        """`taken`: the bytes that the rows of all views of the process take."""
        self._store = store
        self._taken = taken
        self._clock = clock
        self.table = table
        self.views: dict[View, Seen] = {}
        self._opened = asyncio.Event()
        self._listening = False
        self._woken = asyncio.Event()
        self._anew = self._missed = False
        self._read_at = time.monotonic()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._publish())]

    async def stop(self) -> None:
        """Close the channel."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def enter(self, view: View) -> Seen:
        """The view, for one more; it may be used once it is `ready`, which raises StoresAway, TooMany."""
        found = self.views.get(view)
        if found is None:
            found = self.views[view] = Seen(self.table, view, int(self._clock()))
            found.ready = asyncio.create_task(self._prepare(found))
            found.ready.add_done_callback(_looked_at)
        found.users += 1
        return found

    def leave(self, seen: Seen) -> None:
        """One less; what nobody watches is forgotten."""
        seen.users -= 1
        if not seen.users:
            seen.ready.cancel()
            self._forget(seen)

    def _forget(self, seen: Seen) -> None:
        """Whoever comes for this view from now on gets another."""
        if self.views.get(seen.board.view) is seen:
            del self.views[seen.board.view]

    async def _prepare(self, seen: Seen) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPENING_S):
                await self._opened.wait()
        # From here on a channel that is opened has been missed.
        self._opened.set()
        await self._read(seen)
        self._check(seen)
        await seen.work_out(int(self._clock()))
        self._woken.set()

    async def _read(self, seen: Seen) -> None:
        for row in await self._store.rows(self.table, seen.board.view, seen.board.since, MOST_ROWS):
            seen.put(row)

    def _check(self, seen: Seen) -> None:
        """Asked of what is there, for many views may be read at once, and all of them grow. Raises TooMany."""
        if seen.board.size > MOST_BYTES or self._taken() > MOST_BYTES_IN_ALL:
            raise TooMany

    async def _listen(self) -> None:
        """Listens for ever; what may have been missed is read again."""
        while True:
            try:
                async with aclosing(self._store.listen(self.table.metric.name)) as heard:  # type: ignore[type-var]
                    async for changes in heard:
                        if changes is None:
                            self._listening = True
                            self._missed |= self._opened.is_set()
                            self._opened.set()
                        else:
                            self._take(changes)
                        self._woken.set()
            except RedisAway as error:
                log.debug("live tables are read from PostgreSQL: %s", error)
            except Exception:
                log.exception("the channel of a metric failed; it is opened again")
            self._listening = False
            self._opened.set()
            await asyncio.sleep(AGAIN_S)

    def _take(self, changes: Changes) -> None:
        # A row of a table that is not ours: perhaps another one serves by now.
        self._anew |= changes.all or any(row.slot.metric != self.table.id for row in changes.rows)
        for seen in self.views.values():
            for row in changes.rows:
                seen.put(row)

    async def _publish(self) -> None:
        """Tells the watchers, at most every EVERY_S, and using a fifth of the time at most."""
        while True:
            # Not wait_for: in Python 3.11 it loses a cancellation that meets the end of its wait, and this never ends.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S if self._listening else AWAY_S):
                    await self._woken.wait()
            self._woken.clear()
            started = time.monotonic()
            try:
                await self._round()
            except StoresAway as error:
                self._anew = True
                log.debug("live tables wait for PostgreSQL: %s", error)
            except Exception:
                self._anew = True
                log.exception("live tables could not be worked out; they are read again")
            await asyncio.sleep(max(EVERY_S, 4 * (time.monotonic() - started)))

    async def _round(self) -> None:
        due = time.monotonic() - self._read_at >= (REFRESH_S if self._listening else AWAY_S)
        anew, missed = self._anew or self._missed or due, self._missed
        ready = [seen for seen in self.views.values() if _well(seen.ready)]
        if anew:
            self._anew = self._missed = False
            if (await self._store.tables()).get(self.table.metric.name) != self.table:
                self.cut("changed")
                return
        for seen in ready:
            try:
                if anew:
                    await self._read(seen)
                self._check(seen)
            except TooMany:
                seen.cut("too_many_rows")
                self._forget(seen)
                continue
            rows = await seen.work_out(int(self._clock()))
            for watcher in list(seen.watchers):
                if missed:
                    watcher.again()
                else:
                    watcher.offer(rows)
        if anew:
            self._read_at = time.monotonic()

    def cut(self, why: str) -> None:
        """The end for all watchers."""
        for seen in self.views.values():
            seen.cut(why)


def _well(ready: "asyncio.Future[None]") -> bool:
    return ready.done() and not ready.cancelled() and ready.exception() is None


def _looked_at(ready: "asyncio.Future[None]") -> None:
    """Whoever waited for it may be gone; asyncio would log an error that nobody saw."""
    if not ready.cancelled():
        ready.exception()


class Hub:
    """All watchers of a process."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.clock = clock
        self._broadcasts: dict[tuple[str, int], Broadcast] = {}
        self._open: set[Broadcast] = set()
        """Those, and what is watched of a declaration that is another by now."""
        self._watching = 0
        self._stopped = False

    @asynccontextmanager
    async def watch(self, table: Table, view: View) -> AsyncIterator[Watcher]:
        """A watcher of a view. Raises Full, TooMany, StoresAway."""
        if self._stopped or self._watching >= MOST_WATCHERS:
            raise Full
        self._watching += 1
        metrics.LIVE_WATCHERS.inc()
        place = (table.metric.name, table.id)
        broadcast = self._broadcasts.get(place)
        if broadcast is None or broadcast.table != table:
            broadcast = self._broadcasts[place] = Broadcast(self.store, table, self.clock, self._taken)
            self._open.add(broadcast)
        seen = broadcast.enter(view)
        watcher = Watcher(seen)
        try:
            # Shielded: that one of those who wait goes away must not be the end for the others.
            await asyncio.shield(seen.ready)
            seen.watchers.add(watcher)
            self._end_if_stopped(watcher)
            yield watcher
        finally:
            self._watching -= 1
            metrics.LIVE_WATCHERS.dec()
            if watcher.end:
                metrics.LIVE_ENDS.labels(watcher.end).inc()
            seen.watchers.discard(watcher)
            broadcast.leave(seen)
            if not broadcast.views:
                if self._broadcasts.get(place) is broadcast:
                    del self._broadcasts[place]
                self._open.discard(broadcast)
                await broadcast.stop()

    def _end_if_stopped(self, watcher: Watcher) -> None:
        if self._stopped:
            watcher.cut("closing")

    def _taken(self) -> int:
        return sum(seen.board.size for each in self._open for seen in each.views.values())

    def stop(self) -> None:
        """No more watchers, and the end for those who are there."""
        self._stopped = True
        for broadcast in self._open:
            broadcast.cut("closing")

    async def close(self) -> None:
        """Stop, and close every channel."""
        self.stop()
        for broadcast in list(self._open):
            await broadcast.stop()
        self._broadcasts.clear()
        self._open.clear()
