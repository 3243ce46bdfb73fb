"""Our own processes as parts of the stack: `python -m cli …`, ready when their /readyz says so."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedded.errors import PartFailed
from embedded.parts import Say
from embedded.processes import Command, run_to_end, tail
from embedded.state import State

ROOT = Path(__file__).resolve().parent.parent


class Program:
    """A worker or the front. `url` is its address for HTTP, `health` that of its /readyz."""

    stop_signal = signal.SIGTERM
    start_timeout_s = 60.0
    # A worker finishes or lets go, leaves its groups and ends within 20 s.
    stop_timeout_s = 25.0
    may_wait = True

    def __init__(self, name: str, arguments: Sequence[str], environ: Mapping[str, str], host: str, port: int) -> None:
        """`arguments`: the command of ours and what follows it. `environ`: its whole environment."""
        self.name = name
        self._arguments = arguments
        self._environ = environ
        self._host = host
        self._port = port

    @property
    def url(self) -> str:
        """Where it answers, without a path."""
        return address(self._host, self._port)

    @property
    def health(self) -> str:
        """The address of its readiness."""
        return f"{self.url}/readyz"

    async def prepare(self, say: Say) -> None:
        """Nothing is needed."""

    def command(self) -> Command:
        """`python -m cli` with the arguments, in the root."""
        return Command([sys.executable, "-m", "cli", *self._arguments], self._environ, ROOT)

    async def check(self) -> None:
        """Raises ConnectionError until /readyz answers 200."""
        status = await http_status(self._host, self._port, "/readyz")
        if status != 200:
            raise ConnectionError(f"/readyz answers {status}")


def reachable(host: str) -> str:
    """The address at which we ourselves reach a server that listens on `host`."""
    # All addresses of a family: ours never take those of the other one too.
    own = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}  # noqa: S104 - compared, not listened on
    return own.get(host, host)


def address(host: str, port: int) -> str:
    """The URL of a server, without a path."""
    return f"http://{_bracketed(host)}:{port}"


def _bracketed(host: str) -> str:
    """The host as it stands in a URL and in the header Host."""
    return f"[{host}]" if ":" in host else host


async def http_status(host: str, port: int, path: str, timeout_s: float = 3.0) -> int:
    """The status of a GET without a client library: `up` stays small. Raises OSError or TimeoutError."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            server = f"{_bracketed(host)}:{port}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n".encode())
            words = (await reader.readline()).split()
        finally:
            writer.close()
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("no HTTP answer")
    return int(words[1])


async def finish(name: str, arguments: Sequence[str], environ: Mapping[str, str], state: State) -> str:
    """Runs one of our commands to its end; gives what it printed last, a line. Raises `PartFailed` when it fails."""
    log = state.logs / f"{name}.log"
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    code = await run_to_end(name, Command([sys.executable, "-m", "cli", *arguments], environ, ROOT), state, log)
    lines = tail(log).strip().splitlines() or [""]
    if code:
        raise PartFailed(name, f"failed: {lines[-1].removeprefix('yeoul: ')}", log)
    return lines[-1]
