"""The access log: one line for each request, without anything personal.

A log call for each request would cost half of what answering a cached read costs, most of it for a write to the stream
each time. So where logs are JSON lines (telemetry/logs.py) they are gathered for FLUSH_S and written at once; people
on a terminal get theirs by ordinary records. A process that is killed loses the lines of its last moment.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import Any
from uuid import UUID

import msgspec
import orjson

from telemetry.logs import Json
from telemetry.tracecontext import TraceContext
from telemetry.tracecontext import fields as trace_fields

FLUSH_S = 0.1
MOST = 5_000
"""Lines that may wait; with more, the oldest are written at once."""

log = logging.getLogger("yeoul.web")


class Line(msgspec.Struct, frozen=True, gc=False):
    """A request that is done; it took `took` seconds. Ids say nothing to anybody who has no access to the tables."""

    method: str
    route: str
    status: int
    request_id: str
    took: float
    user: UUID | None = None
    operations: Sequence[UUID] = ()
    trace: TraceContext | None = None


class AccessLog:
    """Gathers lines, and writes them to the handlers of the root logger."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, Line]] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, line: Line) -> None:
        """One request is done."""
        if not log.isEnabledFor(logging.INFO):
            return
        self._lines.append((time(), line))
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
            if handler.level > logging.INFO:
                continue  # it is for what goes wrong: reports of errors, for one
            if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, Json):
                handler.acquire()
                try:
                    handler.stream.write(_json(lines).decode())
                    handler.flush()
                finally:
                    handler.release()
            else:
                for at, line in lines:
                    handler.handle(_record(at, line))


def _json(lines: list[tuple[float, Line]]) -> bytes:
    """The lines as JSON. Of what differs, only the route, the method and the caller's id of the request are text."""
    head = b'{"time":"%b.%03d+00:00","level":"info","process":"web","pid":%d,"logger":"%b","message":%b,"request":%b,'
    tail = b'"status":%d,"ms":%.2f%b}\n'
    pid, name = os.getpid(), log.name.encode()
    second, text = -1, b""
    written = []
    for at, line in lines:
        if int(at) != second:
            second = int(at)
            text = datetime.fromtimestamp(second, UTC).isoformat()[:-6].encode()
        told, asked = orjson.dumps(f"{line.method} {line.route} {line.status}"), orjson.dumps(line.request_id)
        written.append(head % (text, int((at - second) * 1000), pid, name, told, asked))
        written.append(tail % (line.status, line.took * 1000, _ids(line)))
    return b"".join(written)


def _ids(line: Line) -> bytes:
    """The further members of the object. UUIDs are left to orjson, which is ten times as quick as they are."""
    found = b"" if line.user is None else b',"user":' + orjson.dumps(line.user)
    if line.operations or line.trace is not None:
        found += b"," + orjson.dumps(operation_fields(line.operations) | trace_fields(line.trace))[1:-1]
    return found


def _record(at: float, line: Line) -> logging.LogRecord:
    said = f"{line.method} {line.route} {line.status}"
    record = logging.LogRecord(log.name, logging.INFO, __file__, 0, said, None, None)
    record.created = at
    fields: dict[str, Any] = {"request": line.request_id, "status": line.status, "ms": round(line.took * 1000, 2)}
    fields |= {} if line.user is None else {"user": line.user}
    record.__dict__["fields"] = fields | operation_fields(line.operations) | trace_fields(line.trace)
    return record


def operation_fields(operations: Sequence[UUID]) -> dict[str, Any]:
    """What a line says of what was asked for: one operation as such, those of a batch as a list."""
    if not operations:
        return {}
    if len(operations) == 1:
        return {"operation": operations[0]}
    return {"operations": [str(operation) for operation in operations]}
