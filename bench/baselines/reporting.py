"""How the stream programs tell their progress: a JSON line of their `Meter`, some times a second.

A thread writes the lines, so that what a program does on its event loop is not disturbed by being watched. Times are
`time.monotonic()` in seconds: one clock for all processes of a machine.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping

import orjson

INTERVAL_S = 0.5


class Meter:
    """What a stream program has seen. A program of batches calls `batch`; one of single events adds to `seen`."""

    def __init__(self) -> None:
        self.seen = 0
        self.first = 0
        """Size of the first batch; the rate leaves it out, since its fetch lies before `began`."""
        self.began = 0.0
        self.ended = 0.0
        self._writing = threading.Lock()

    def batch(self, number: int, began: float) -> None:
        """Count a batch that was handled just now, and whose handling began at `began`."""
        if not self.began:
            self.began, self.first = began, number
        self.seen += number
        self.ended = time.monotonic()

    def report(self, interval_s: float = INTERVAL_S) -> None:
        """Start the thread; it ends with the process."""

        def write() -> None:
            pause = threading.Event()
            while not pause.wait(interval_s):
                self._write({})

        threading.Thread(target=write, name="report", daemon=True).start()

    def result(
        self, rows: Iterable[tuple[int, str, int]] | None = None, handled: Mapping[str, int] | None = None
    ) -> None:
        """The last word: the counts (minute's start in seconds since 1970, type, number), and what was handled by type.

        Without `rows` the counts are where whoever started this knows to find them.
        """
        self._write({"done": True, "rows": None if rows is None else list(rows), "handled": handled})

    def stay(self) -> None:
        """Wait for SIGTERM: what a process has cost can't be read once it has ended."""
        signal.pause()

    def _write(self, more: Mapping[str, object]) -> None:
        line = {
            "at": time.monotonic(),
            "seen": self.seen,
            "first": self.first,
            "began": self.began,
            "ended": self.ended,
            **more,
        }
        data = orjson.dumps(line) + b"\n"
        with self._writing:  # a result is longer than what a pipe takes in one piece
            while data:
                data = data[os.write(1, data) :]
