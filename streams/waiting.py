"""Those who wait for an answer, each until one comes, until the table of operations has it, or until the wait is over.

The end of a wait depends on nothing else: whatever becomes of the looks at the table, nobody waits for ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from stores import StoresAway
from streams.answers import Answer

log = logging.getLogger("yeoul.streams.waiting")

FIRST_LOOK_S = 0.3
"""When no answer has come by Redis after this, the table of operations is asked; then less and less often."""
DEAF_LOOK_S = 0.01
"""The same while no answer can come by Redis."""
LONGEST_PAUSE_S = 1.0
LOOK_S = 1.0
"""How long a look may take, seconds."""
GRACE_S = 3.0
"""What the look at the end of a wait may add to it, seconds: a query, and a cache that is frozen."""
SENT_S = 5.0
"""How long a caller that does not wait for the answer waits for Kafka to acknowledge, seconds."""

Look = Callable[[], Awaitable[Answer | None]]
"""Asks the table of operations. Raises StoresAway."""


class Waiter:
    """One caller. `future`: its answer, or None when the wait is over.

    `until_sent`: it waits for Kafka, and is told nothing of an answer that is quicker. `answered`: one has come.
    """

    __slots__ = (
        "answered", "deadline", "end", "fingerprint", "future", "look", "operation", "pause", "timer", "until_sent",
    )  # fmt: skip

    def __init__(
        self, operation: UUID, fingerprint: str, look: Look, future: "asyncio.Future[Answer | None]", deadline: float
    ) -> None:
        self.operation = operation
        self.fingerprint = fingerprint
        self.look = look
        self.future = future
        self.deadline = deadline
        self.pause = FIRST_LOOK_S
        self.timer: asyncio.TimerHandle | None = None
        self.end: asyncio.TimerHandle | None = None
        self.until_sent = False
        self.answered = False

    def settle(self, answer: Answer | None) -> None:
        """The wait is over; the first to say so counts."""
        if not self.future.done():
            self.answered = answer is not None
            # An answer may be quicker than Kafka's word that it has the command: once in a while a 202 would be a 201.
            self.future.set_result(None if self.until_sent else answer)

    def fail(self, error: Exception) -> None:
        """The wait is over with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Waiting:
    """All who wait in this process. `listening`: whether answers can come by Redis now."""

    def __init__(self, listening: Callable[[], bool]) -> None:
        self._listening = listening
        self._waiters: dict[UUID, list[Waiter]] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def enter(self, operation: UUID, fingerprint: str, wait: float, look: Look) -> Waiter:
        """Wait for `wait` seconds, GRACE_S more at most; with 0 until Kafka has the command, SENT_S at most."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(operation, fingerprint, look, loop.create_future(), loop.time() + wait)
        self._waiters.setdefault(operation, []).append(waiter)
        if wait > 0:
            waiter.end = loop.call_later(wait + GRACE_S, waiter.settle, None)
            self._look_later(waiter)
        else:
            # Not to be waited for; but what is answered with 202 must be in Kafka.
            waiter.until_sent = True
            waiter.end = loop.call_later(SENT_S, waiter.settle, None)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The caller has its answer, or went away."""
        for timer in (waiter.timer, waiter.end):
            if timer is not None:
                timer.cancel()
        waiters = self._waiters.get(waiter.operation, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(waiter.operation, None)

    def deliver(self, answer: Answer, fingerprint: str) -> None:
        """An answer came by Redis, to the command of this fingerprint; without one to whoever waits."""
        for waiter in self._waiters.get(answer.operation, ()):
            # Under one idempotency key others may wait with another body: theirs is another answer.
            if not fingerprint or fingerprint == waiter.fingerprint:
                waiter.settle(answer)

    def close(self) -> None:
        """End every wait."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.settle(None)
        for look in self._looks:
            look.cancel()

    def _look_later(self, waiter: Waiter) -> None:
        if not self._listening():
            waiter.pause = min(waiter.pause, DEAF_LOOK_S)
        loop = asyncio.get_running_loop()
        left = waiter.deadline - loop.time()
        delay = min(waiter.pause, left)
        waiter.timer = loop.call_later(max(delay, 0.0), self._begin_look, waiter, delay >= left)

    def _begin_look(self, waiter: Waiter, last: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._look(waiter, last=last))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _look(self, waiter: Waiter, *, last: bool) -> None:
        """Answers may get lost with Redis, operations not: find it in the table, or look again later."""
        answer = None
        try:
            if not waiter.future.done():
                answer = await waiter.look()
        except (StoresAway, TimeoutError):
            pass  # later, or never: the wait has an end of its own
        except Exception:
            log.exception("operation %s could not be looked up", waiter.operation)
        finally:
            if waiter.future.done():
                pass
            elif answer is not None or last or asyncio.get_running_loop().time() >= waiter.deadline:
                waiter.settle(answer)
            else:
                waiter.pause = min(waiter.pause * 2, LONGEST_PAUSE_S)
                self._look_later(waiter)
