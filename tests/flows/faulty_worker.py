"""A worker that is struck at a given point: `python -m tests.flows.faulty_worker POINT:SIGNAL:NTH [GROUP…]`.

The point is in the product's code; the signal is a real one (KILL, STOP) that the process sends itself when it gets
there for the NTH time. Points: before_commit, in_transaction (nothing but claims written yet), written (everything, and
not committed), after_commit (nothing published yet), after_publish (nothing acknowledged yet), before_answers
(committed, neither answered nor published), before_publish, before_counts (a reader's batch).

`POINT:DELAY:MILLISECONDS` waits there each time instead (before_poll, too). `POINT:MARK:0` writes "at POINT" into the
log each time that it gets there, and "past POINT" when what the point is at has been done. `POINT:BLOCK:MILLISECONDS`
stands there each time, and the loop with it. `watchdog:PATIENCE:SECONDS` is how long the watchdog looks on where
there is no progress, `loop:PATIENCE:SECONDS` where the loop does not turn. Several are separated by commas, and a later
one is around those before.
"""

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import worker
from agents.accounts import AccountDecisions
from agents.analytics import MetricTables
from cli.connection import settings
from stores.aggregates import Commands
from stores.cache import Cache
from streams.in_loop import InLoopConsumer
from streams.publisher import Publisher
from streams.watchdog import Watchdog

POINTS: dict[str, tuple[type, str, bool]] = {
    "before_commit": (Commands, "commit", True),
    "in_transaction": (AccountDecisions, "before_decide", False),
    "written": (AccountDecisions, "after_write", False),
    "after_commit": (Commands, "commit", False),
    "after_publish": (Publisher, "_send", False),
    "before_publish": (Publisher, "_send", True),
    "before_answers": (Cache, "put_and_publish", True),
    "before_poll": (InLoopConsumer, "poll", True),
    "before_counts": (MetricTables, "commit", True),
}


def strike(point: str, number: signal.Signals, nth: int) -> None:
    """Let the process send itself a signal when it is at the point for the nth time."""
    owner, name, before = POINTS[point]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    count = 0

    async def struck(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        due = count == nth
        if due and before:
            os.kill(os.getpid(), number)
        result = await original(*arguments, **named)
        if due and not before:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, struck)


async def stand(seconds: float) -> None:
    """As a handler that computes, or asks something that blocks."""
    time.sleep(seconds)  # noqa: ASYNC251


def delay(point: str, milliseconds: int, wait: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Let the process wait each time that it is at the point."""
    owner, name, before = POINTS[point]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def delayed(*arguments: Any, **named: Any) -> Any:
        if before:
            await wait(milliseconds / 1000)
        result = await original(*arguments, **named)
        if not before:
            await wait(milliseconds / 1000)
        return result

    setattr(owner, name, delayed)


def mark(point: str) -> None:
    """Let the process write into its log each time that it gets to the point, and when it is past it."""
    owner, name, _before = POINTS[point]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def marked(*arguments: Any, **named: Any) -> Any:
        print(f"at {point}", file=sys.stderr, flush=True)
        result = await original(*arguments, **named)
        print(f"past {point}", file=sys.stderr, flush=True)
        return result

    setattr(owner, name, marked)


if __name__ == "__main__":
    for fault in sys.argv[1].split(","):
        where, what, when = fault.split(":")
        if what == "DELAY":
            delay(where, int(when))
        elif what == "BLOCK":
            delay(where, int(when), stand)
        elif what == "MARK":
            mark(where)
        elif what == "PATIENCE":
            patience = {"loop_s" if where == "loop" else "progress_s": float(when)}
            worker.Watchdog = functools.partial(Watchdog, **patience)  # type: ignore[attr-defined,assignment,arg-type]
        else:
            strike(where, signal.Signals[f"SIG{what}"], int(when))
    sys.exit(worker.run(settings("kafka", "postgres", "redis"), sys.argv[2:]))
