"""Keeps a part alive: started, watched, started again when it dies, and given up when that does not help."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from embedded.errors import DiskFull, EmbeddedError, PartFailed, explain, is_disk_full
from embedded.parts import Part, Say
from embedded.processes import Child, bound_log, tail
from embedded.state import State

POLL_S = 0.05
RESTARTS, WITHIN_S = 5, 60.0
"""A part that dies more often than this in this time is given up."""
BACKOFF_S = (0.2, 1.0, 2.0, 5.0, 10.0)
BOUND_LOGS_EVERY_S = 30.0


log = logging.getLogger("yeoul.embedded")


class Life(StrEnum):
    """Where a part stands: stopped → starting → ready → (restarting → ready)… → stopped, or failed."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"


class Runner:
    """One part and its process.

    `start`, `stop` and `kill` act at once; `keep` watches until told otherwise. `changed` is called whenever the
    state or the process is another.
    """

    def __init__(self, part: Part, state: State, say: Say, changed: Callable[[], None] = lambda: None) -> None:
        self.part = part
        self.log = state.logs / f"{part.name}.log"
        self.life = Life.STOPPED
        self._state = state
        self._say = say
        self._changed = changed
        self._child: Child | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    def _is(self, life: Life) -> None:
        self.life = life
        self._changed()

    async def start(self) -> None:
        """Prepares and starts the part, and returns when it accepts work.

        Raises `PartFailed` when it ends or does not answer in time; `DiskFull`; what `prepare` raises.
        """
        self._stopping = False
        self._is(Life.STARTING)
        try:
            await self._start(self.part.start_timeout_s)
        except BaseException:
            if self._child is not None:
                await self._child.stop(signal.SIGKILL, 5.0)
            self._is(Life.FAILED)
            raise
        self._is(Life.READY)

    async def _start(self, timeout_s: float) -> None:
        part = self.part
        try:
            await part.prepare(self._say)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(self._state.folder) from None
            raise
        bound_log(self.log)
        begun = self.log.stat().st_size if self.log.exists() else 0
        self._child = Child.start(part.name, part.command(), self._state, self.log, part.stop_signal)
        self._changed()
        deadline = time.monotonic() + timeout_s
        ended = asyncio.create_task(self._child.wait())
        try:
            while True:
                try:
                    async with asyncio.timeout(5.0):
                        await part.check()
                    return
                except EmbeddedError:
                    raise
                except Exception as error:  # a server that starts refuses in many ways
                    log.debug("%s: not yet: %r", part.name, error)
                if ended.done():
                    raise PartFailed(
                        part.name, f"ended while starting ({_reason(ended.result())})", self.log, self._cause(begun)
                    )
                if time.monotonic() > deadline:
                    raise PartFailed(
                        part.name, f"did not answer within {timeout_s:.0f} s", self.log, self._cause(begun)
                    )
                # The next try follows shortly, and at once when the process has ended.
                await asyncio.wait([ended], timeout=POLL_S)
        finally:
            ended.cancel()

    def _cause(self, begun: int) -> str:
        """What the log says since it had `begun` bytes."""
        fresh = max(0, self.log.stat().st_size - begun) if self.log.exists() else 0
        return explain(tail(self.log, min(fresh, 65536)), self._state.folder)

    async def stop(self) -> bool:
        """Ends the part in good order, or by force after its time. False when force was needed."""
        self._stopping = True
        graceful = True
        if self._child is not None:
            # A process that is frozen would not hear the request.
            self._child.send(signal.SIGCONT)
            graceful = await self._child.stop(self.part.stop_signal, self.part.stop_timeout_s)
        self._is(Life.STOPPED)
        return graceful

    async def kill(self) -> None:
        """Ends the part by SIGKILL, as a crash would, and leaves it so."""
        self._stopping = True
        if self._child is not None:
            await self._child.stop(signal.SIGKILL, 10.0)
        self._is(Life.STOPPED)

    async def keep(self) -> None:
        """Starts the part again whenever it ends by itself. Returns when it was stopped.

        Raises `PartFailed` when it has ended too often: the others cannot do without it.
        """
        deaths: deque[float] = deque(maxlen=RESTARTS)
        while self._child is not None:
            try:
                async with asyncio.timeout(BOUND_LOGS_EVERY_S):
                    code = await self._child.wait()
            except TimeoutError:
                bound_log(self.log)
                continue
            if self._stopping:
                return
            name, now = self.part.name, time.monotonic()
            deaths.append(now)
            if len(deaths) == RESTARTS and now - deaths[0] < WITHIN_S:
                self._is(Life.FAILED)
                raise PartFailed(
                    name, f"ended {RESTARTS} times within {WITHIN_S:.0f} s ({_reason(code)})", self.log, self._cause(0)
                )
            pause = BACKOFF_S[len([death for death in deaths if now - death < WITHIN_S]) - 1]
            self._say(
                f"{name}: ended by itself ({_reason(code)}), starting it again in {pause:g} s; its log: {self.log}"
            )
            self._is(Life.RESTARTING)
            await asyncio.sleep(pause)
            if self._stopped():
                return
            try:
                await self._start(math.inf if self.part.may_wait else self.part.start_timeout_s)
            except PartFailed as failure:
                # Counted like any death, in the next round: the process has ended, or is ended here.
                self._say(str(failure))
                self._child.send(signal.SIGKILL)
                continue
            self._is(Life.READY)
            self._say(f"{name}: is back")

    def _stopped(self) -> bool:
        """Asked again after each wait: meanwhile `stop` may have been called."""
        return self._stopping


def _reason(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
