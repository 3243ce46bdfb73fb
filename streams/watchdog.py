"""Ends a worker that is stuck, so that whoever supervises it starts another: exit status 70.

Stuck is: the loop does not turn, or a group has work (a batch in hand, records on the broker, events to publish) and
makes no progress. Waiting for a store or the broker is not, nor is a partition that was stopped.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from time import monotonic

from streams.runtime import Running
from telemetry import metrics, reports

log = logging.getLogger("yeoul.streams.watchdog")

LOOP_S = 30.0
PROGRESS_S = 120.0
EVERY_S = 1.0
ASK_EVERY_S = 5.0
ASK_S = 2.0
EXIT_STATUS = 70
END_S = 5.0
"""How long the last words may take."""


class Watchdog:
    """A thread that looks, and a task that shows that the loop turns."""

    def __init__(self, running: list[Running], *, loop_s: float = LOOP_S, progress_s: float = PROGRESS_S) -> None:
        self._running = running
        self._loop_s = loop_s
        self._progress_s = progress_s
        self._turned_at = monotonic()
        self._standing: dict[tuple[Running, str], tuple[float, float]] = {}
        self._stopped = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look."""
        self._tasks = [asyncio.create_task(self._turn()), asyncio.create_task(self._ask())]
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()
        for task in self._tasks:
            task.cancel()

    async def _turn(self) -> None:
        while True:
            self._turned_at = monotonic()
            for running in self._running:
                consumer = running.consumer
                if consumer is not None:
                    metrics.LAG.labels(running.full_name).set(consumer._thread.lag())
                    metrics.PARTITIONS.labels(running.full_name).set(len(consumer._thread.assignment_or_none()))
            await asyncio.sleep(EVERY_S)

    async def _ask(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(ASK_EVERY_S)

    async def ask(self) -> None:
        """Ask the broker which groups have more to read; one that it does not tell of is not known to be stuck."""
        for running in self._running:
            consumer = running.consumer
            if consumer is not None:
                try:
                    async with asyncio.timeout(ASK_S):
                        await consumer.look_behind()
                except Exception as error:  # while a group starts or stops, its consumer raises all kinds of things
                    consumer.behind = False
                    log.debug("%s: whether there is more to read is not known: %r", running.full_name, error)

    def _look(self) -> None:
        looked_at = monotonic()
        while not self._stopped.wait(EVERY_S):
            now = monotonic()
            if now - looked_at > 5 * EVERY_S:
                # The whole process stood still (a debugger, SIGSTOP, a laptop's lid): that is nobody's fault.
                self._turned_at = now
                self._standing.clear()
            looked_at = now
            reason = self.stuck(now)
            if reason is not None:
                _end(reason)

    def stuck(self, now: float) -> str | None:
        """Why the process is stuck, if it is, by what this and earlier looks saw. `now`: monotonic seconds."""
        if now - self._turned_at > self._loop_s:
            return f"its loop has not turned for {now - self._turned_at:.0f} s"
        standing = {}
        for running in self._running:
            for what, got_further_at in running.work().items():
                before = self._standing.get((running, what))
                if before is None or before[0] != got_further_at:
                    before = (got_further_at, now)
                standing[running, what] = before
        self._standing = standing
        for (running, what), (_, since) in standing.items():
            if now - since > self._progress_s:
                return f"{running.full_name} has {what} and got no further for {now - since:.0f} s"
        return None


def _end(reason: str) -> None:
    """Ends the process, whatever becomes of the words about it: a lock of the log may be held by what is stuck."""
    threading.Timer(END_S, os._exit, (EXIT_STATUS,)).start()
    try:
        log.critical("the worker is stuck: %s. It ends, to be started again", reason)
        faulthandler.dump_traceback(file=sys.stderr)
        reports.close()  # it is sent by a thread, which ends with this process
    finally:
        os._exit(EXIT_STATUS)
