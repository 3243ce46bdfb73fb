"""The access log: one line for each request, without anything personal.

A log call for each request would cost half of what answering a cached read costs, most of it for a write to the stream
each time. So where logs are JSON lines (telemetry/logs.py) they are gathered for FLUSH_S and written at once; people
on a terminal get theirs by ordinary records. A process that is killed loses the lines of its last moment.
"""

import asyncio
import logging
import os
from datetime import UTC, datetime
from time import time

import orjson

from telemetry.logs import Json

FLUSH_S = 0.1
MOST = 5_000
"""Lines that may wait; with more, the oldest are written at once."""

log = logging.getLogger("yeoul.web")


class AccessLog:
    """Gathers lines, and writes them to the handlers of the root logger."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, str, str, int, str, float]] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, method: str, route: str, status: int, request_id: str, took: float) -> None:
        """One request is done; `took` seconds."""
        if not log.isEnabledFor(logging.INFO):
            return
        self._lines.append((time(), method, route, status, request_id, took))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        elif len(self._lines) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Writes what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, Json):
                handler.acquire()
                try:
                    handler.stream.write(_json(lines).decode())
                    handler.flush()
                finally:
                    handler.release()
            else:
                for line in lines:
                    handler.handle(_record(line))


def _json(lines: list[tuple[float, str, str, int, str, float]]) -> bytes:
    """The lines as JSON. Of what differs, only the route and the method are anybody's text."""
    head = b'{"time":"%b.%03d+00:00","level":"info","process":"web","pid":%d,"logger":"%b","message":%b,"request":%b,'
    tail = b'"status":%d,"ms":%.2f}\n'
    pid, name = os.getpid(), log.name.encode()
    second, text = -1, b""
    written = []
    for at, method, route, status, request_id, took in lines:
        if int(at) != second:
            second = int(at)
            text = datetime.fromtimestamp(second, UTC).isoformat()[:-6].encode()
        told, asked = orjson.dumps(f"{method} {route} {status}"), orjson.dumps(request_id)
        written.append(head % (text, int((at - second) * 1000), pid, name, told, asked))
        written.append(tail % (status, took * 1000))
    return b"".join(written)


def _record(line: tuple[float, str, str, int, str, float]) -> logging.LogRecord:
    at, method, route, status, request_id, took = line
    record = logging.LogRecord(log.name, logging.INFO, __file__, 0, f"{method} {route} {status}", None, None)
    record.created = at
    record.__dict__["fields"] = {"request": request_id, "status": status, "ms": round(took * 1000, 2)}
    return record
