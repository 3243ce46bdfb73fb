"""How the stream programs tell their progress: a JSON line of their `Meter` twice a second.

A thread writes the lines, so that what a program does on its event loop is not disturbed by being watched. Times are
`time.monotonic()` in seconds: one clock for all processes of a machine.
"""

import os
import threading
import time

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

    def batch(self, number: int, began: float) -> None:
        """Count a batch that was handled just now, and whose handling began at `began`."""
        if not self.began:
            self.began, self.first = began, number
        self.seen += number
        self.ended = time.monotonic()

    def report(self) -> None:
        """Start the thread; it ends with the process."""

        def write() -> None:
            pause = threading.Event()
            while not pause.wait(INTERVAL_S):
                line = {
                    "at": time.monotonic(),
                    "seen": self.seen,
                    "first": self.first,
                    "began": self.began,
                    "ended": self.ended,
                }
                os.write(1, orjson.dumps(line) + b"\n")

        threading.Thread(target=write, name="report", daemon=True).start()
