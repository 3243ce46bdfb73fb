"""Ends a worker that is stuck, so that whoever supervises it starts another: exit status 70.

Stuck is: the loop does not turn, or a group has work and makes no progress. Waiting for a store or the broker is not,
nor is a partition that was stopped.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from time import monotonic

from streams.runtime import Running
from telemetry import metrics

log = logging.getLogger("yeoul.streams.watchdog")

LOOP_S = 30.0
PROGRESS_S = 120.0
EVERY_S = 1.0
EXIT_STATUS = 70


class Watchdog:
    """A thread that looks, and a task that shows that the loop turns."""

    def __init__(self, running: list[Running], *, loop_s: float = LOOP_S, progress_s: float = PROGRESS_S) -> None:
        self._running = running
        self._loop_s = loop_s
        self._progress_s = progress_s
        self._turned_at = monotonic()
        self._stopped = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._turn())
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()

    async def _turn(self) -> None:
        while True:
            self._turned_at = monotonic()
            for running in self._running:
                consumer = running.consumer
                if consumer is not None:
                    metrics.LAG.labels(running.full_name).set(consumer._thread.lag())
                    metrics.PARTITIONS.labels(running.full_name).set(len(consumer._thread.assignment_or_none()))
            await asyncio.sleep(EVERY_S)

    def _look(self) -> None:
        looked_at = monotonic()
        while not self._stopped.wait(EVERY_S):
            now = monotonic()
            if now - looked_at > 5 * EVERY_S:
                # The whole process stood still (a debugger, SIGSTOP, a laptop's lid): that is nobody's fault.
                self._turned_at = now
                for running in self._running:
                    if running.consumer is not None:
                        running.consumer.progressed_at = now
            looked_at = now
            reason = self._stuck(now)
            if reason is not None:
                log.critical("the worker is stuck: %s. It ends, to be started again", reason)
                faulthandler.dump_traceback(file=sys.stderr)
                os._exit(EXIT_STATUS)

    def _stuck(self, now: float) -> str | None:
        if now - self._turned_at > self._loop_s:
            return f"its loop has not turned for {now - self._turned_at:.0f} s"
        for running in self._running:
            consumer = running.consumer
            if consumer is None or running.trouble is not None or consumer.backing_off:
                continue
            busy = consumer._outstanding is not None
            if busy and now - consumer.progressed_at > self._progress_s:
                return f"{running.full_name} has had the same batch for {now - consumer.progressed_at:.0f} s"
        return None
