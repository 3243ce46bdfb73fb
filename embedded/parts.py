"""What the supervisor asks of anything it runs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from embedded.processes import Command

Say = Callable[[str], None]
"""Takes one line of progress, for people."""


class Part(Protocol):
    """A program of the stack: a server, or one of our own processes."""

    name: str
    stop_signal: signal.Signals
    """What makes it end in good order."""
    start_timeout_s: float
    stop_timeout_s: float
    may_wait: bool
    """Whether it may be alive and not ready for any time after a restart: a worker whose database is away."""

    async def prepare(self, say: Say) -> None:
        """Makes its files and folders ready; downloads what is missing. Called before each start; quick when done."""

    def command(self) -> Command:
        """The program to run."""

    async def check(self) -> None:
        """Returns when it accepts work. Raises anything while it does not yet."""
