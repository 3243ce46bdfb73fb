"""`down`: ends a running `up`, and whatever one that crashed left behind."""

from __future__ import annotations

import argparse
import asyncio

import psutil

from cli.connection import state
from embedded.errors import EmbeddedError
from embedded.processes import end_left_over
from embedded.state import State

HELP = "stop what `up` started; the data is kept"
# Longer than the front, the workers and the servers may take one after the other.
TIMEOUT_S = 120.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes none."""


def run(options: argparse.Namespace) -> int:
    """0 also when nothing ran: afterwards nothing does."""
    place = state()
    holder = place.holder()
    if holder:
        stop(holder)
        print("stopped; the data is kept for the next ./yeoul up")
        return 0
    left = asyncio.run(_clean(place))
    print(f"stopped what an earlier run left behind: {', '.join(left)}" if left else "nothing runs here")
    return 0


def stop(pid: int) -> None:
    """Asks `up` to end and waits for it. Raises `EmbeddedError` when it does not."""
    try:
        process = psutil.Process(pid)
        process.terminate()
        process.wait(TIMEOUT_S)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        raise EmbeddedError(
            f"Process {pid} did not stop within {TIMEOUT_S:.0f} s. See its logs, or end it by force: kill -9 {pid};"
            " then ./yeoul down cleans up"
        ) from None
    except psutil.AccessDenied:
        raise EmbeddedError(f"Process {pid} belongs to another user, who can stop it by ./yeoul down") from None


async def _clean(place: State) -> list[str]:
    if not (place.folder / "lock").exists():
        # Nothing was ever started there, and a run.json is somebody else's.
        return []
    left = await end_left_over(place)
    place.remove("run")
    return left
