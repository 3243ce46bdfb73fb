"""A lean HTTP/1.1 load generator: a process of its own, so that it shares no interpreter with what it measures.

Reads one `Plan` (JSON) from standard input, prints one `Outcome` (JSON) on standard output. Every connection is kept
alive and sends its next request when the response before it is complete (a closed loop): `connections` is the number
of callers. Responses need a `Content-Length`, or are chunked; any other ends the run with a message, since it would be
miscounted.
"""

import asyncio
import itertools
import resource
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from time import perf_counter
from typing import cast

import msgspec
import uvloop

RECONNECT_S = 0.1
BODILESS = (204, 304)
ROW = b'"id":'
"""What each row of an answer has once."""
LAST_CHUNK = b"\r\n0\r\n\r\n"
"""The end of a chunked answer without trailers. JSON has no such line breaks, so it ends nothing else."""
CHUNKED = -1


class Plan(msgspec.Struct, frozen=True):
    """What to send, and for how long. `requests` are (method, path, body), sent round and round in this order."""

    port: int
    connections: int
    requests: list[tuple[str, str, str]]
    headers: dict[str, str]
    expect: int = 200
    host: str = "127.0.0.1"
    warmup_s: float = 1.0
    seconds: float = 10.0
    """Length of the measured window; the warm-up comes before it and isn't counted."""
    count: int = 10_000_000
    """At most so many responses within the window."""
    items: int | None = None
    """How many rows (members `id`) each expected answer must have, else it is counted as `incomplete`; None: any."""
    drain_s: float = 8.0
    """How long requests may still run after the window before they are counted as unanswered."""


class Outcome(msgspec.Struct, frozen=True):
    """What came back within the window; latencies are milliseconds of the expected answers."""

    count: int
    errors: dict[str, int]
    """By status, `incomplete`, `closed` (it ended before an answer) or `unanswered` (none until the drain was over)."""
    duration_s: float
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    total: int
    """Expected answers in all, with those of the warm-up and the drain."""


class Run:
    """The shared state of one run: what is sent next, and what was seen."""

    def __init__(self, plan: Plan) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        self.requests: Iterator[bytes] = itertools.cycle(
            [_request(plan, head, method, path, body) for method, path, body in plan.requests]
        )
        self.plan = plan
        self.latencies = array("d")
        self.errors: Counter[str] = Counter()
        self.total = 0
        self.outstanding = 0
        self.measuring = False
        self.sending = True
        self.failure: str | None = None
        self.full = asyncio.Event()
        self.idle = asyncio.Event()

    def answered(self, status: int, started: float, data: bytes) -> None:
        """Count one complete response."""
        self.outstanding -= 1
        if status == self.plan.expect and self.plan.items not in (None, data.count(ROW)):
            self.errors["incomplete"] += self.measuring
        elif status == self.plan.expect:
            self.total += 1
            # More may come in before whoever waits for `full` has stopped it.
            if self.measuring and not self.full.is_set():
                self.latencies.append(perf_counter() - started)
                if len(self.latencies) >= self.plan.count:
                    self.full.set()
        elif self.measuring:
            self.errors[str(status)] += 1
        if not self.sending and not self.outstanding:
            self.idle.set()

    def lost(self) -> None:
        """Count one connection that ended before its answer."""
        self.outstanding -= 1
        self.errors["closed"] += 1
        if not self.sending and not self.outstanding:
            self.idle.set()

    def fail(self, message: str) -> None:
        """End the run: what came back cannot be counted truthfully."""
        self.failure = message
        self.full.set()


def _request(plan: Plan, head: str, method: str, path: str, body: str) -> bytes:
    payload = body.encode()
    length = f"Content-Length: {len(payload)}\r\n" if payload else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\n{head}{length}\r\n".encode() + payload


def joined(data: bytes) -> bytes:
    """The body of a chunked answer in one piece: a row may lie in two chunks."""
    parts = []
    at = data.find(b"\r\n\r\n") + 4
    while size := int(data[at : (end := data.find(b"\r\n", at))], 16):
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


class Caller(asyncio.Protocol):
    """One keep-alive connection."""

    __slots__ = ("buffer", "needed", "run", "started", "status", "transport", "waiting")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""
        self.needed = 0
        self.status = 0
        self.waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        """Send the next request, or hang up when the run is over."""
        run = self.run
        if not run.sending:
            self.transport.close()
            return
        run.outstanding += 1
        self.waiting = True
        self.started = perf_counter()
        self.transport.write(next(run.requests))

    def data_received(self, data: bytes) -> None:
        """Collect one response: the usual case is one whole response in one piece."""
        if self.buffer:
            data = self.buffer + data
        if not self.needed:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = data
                return
            self.status = int(data[9:12])
            length = self.body_length(data[:end])
            self.needed = CHUNKED if length == CHUNKED else end + 4 + length
        if self.needed == CHUNKED:
            if not data.endswith(LAST_CHUNK):
                self.buffer = data
                return
            data = joined(data)
        elif len(data) < self.needed:
            self.buffer = data
            return
        self.buffer = b""
        self.needed = 0
        self.waiting = False
        self.run.answered(self.status, self.started, data)
        self.send()

    def body_length(self, head: bytes) -> int:
        """Bytes of the body that follows `head`; CHUNKED if only its end tells."""
        start = head.find(b"Content-Length: ")
        if start < 0:
            start = head.lower().find(b"content-length: ")
        if start < 0:
            if b"transfer-encoding: chunked" in head.lower():
                return CHUNKED
            if self.status not in BODILESS:
                self.run.fail(
                    f"a response ({self.status}) that is neither chunked nor of a known length: cannot be measured"
                )
            return 0
        end = head.find(b"\r", start)
        return int(head[start + 16 : end if end > 0 else len(head)])

    def connection_lost(self, reason: Exception | None) -> None:
        """Count what was lost, and call again while the run lasts."""
        if self.waiting:
            self.run.lost()
        if self.run.sending:
            loop = asyncio.get_running_loop()
            loop.call_later(RECONNECT_S, lambda: loop.create_task(_connect(self.run)))


async def _connect(run: Run) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: Caller(run), run.plan.host, run.plan.port)
    except OSError as reason:
        run.fail(f"{run.plan.host}:{run.plan.port} refuses connections: {reason}")


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def measure(plan: Plan) -> Outcome:
    """Run `plan` once. Raises `SystemExit` with a sentence when the answers cannot be counted."""
    run = Run(plan)
    await asyncio.gather(*(_connect(run) for _ in range(plan.connections)))
    await _within(run.full, plan.warmup_s)
    run.measuring = True
    began, cpu = perf_counter(), _cpu_seconds()
    await _within(run.full, plan.seconds)
    duration, cpu = perf_counter() - began, _cpu_seconds() - cpu
    run.measuring = run.sending = False
    if run.failure:
        raise SystemExit(run.failure)
    if run.outstanding:
        await _within(run.idle, plan.drain_s)
    if run.outstanding:
        run.errors["unanswered"] = run.outstanding
    ordered = sorted(run.latencies) or [0.0]
    return Outcome(
        count=len(run.latencies),
        errors=dict(run.errors),
        duration_s=duration,
        rate=len(run.latencies) / duration,
        p50_ms=1000 * ordered[len(ordered) // 2],
        p99_ms=1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        max_ms=1000 * ordered[-1],
        cpu_s=cpu,
        total=run.total,
    )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Plan in, outcome out."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(measure(plan))
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")


if __name__ == "__main__":
    main()
