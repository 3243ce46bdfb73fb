"""The mail catcher: what the installation would send is kept in a folder, and leaves the machine never."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from embedded.parts import Say
from embedded.processes import Command
from embedded.state import State

ROOT = Path(__file__).resolve().parent.parent
MOST = 200
"""Mails that are kept."""


def folder(state: State) -> Path:
    """Where the mails of a state folder are."""
    return state.folder / "mail"


def caught(folder: Path) -> list[Path]:
    """The mails that are kept, oldest first."""
    return sorted((path for path in folder.glob("*.eml") if path.stem.isdigit()), key=lambda path: int(path.stem))


class Mail:
    """The catcher of one state folder; `url` is its address as YEOUL_SMTP_URL takes it."""

    name = "mail"
    stop_signal = signal.SIGTERM
    start_timeout_s = 20.0
    stop_timeout_s = 5.0
    may_wait = False

    def __init__(self, state: State, environ: dict[str, str]) -> None:
        self._state = state
        self._environ = environ
        self._port = 0

    @property
    def url(self) -> str:
        """Known after `reserve`."""
        return f"smtp://127.0.0.1:{self._port}"

    def reserve(self) -> None:
        """Takes the port. Raises `PortBusy`."""
        self._port = self._state.port("mail")

    async def prepare(self, say: Say) -> None:
        """Makes its folder: mails hold what only their owner may see."""
        folder(self._state).mkdir(mode=0o700, exist_ok=True)

    def command(self) -> Command:
        """The catcher in the foreground."""
        program = [sys.executable, "-m", "embedded.catcher", str(self._port), str(folder(self._state))]
        return Command(program, self._environ, ROOT)

    async def check(self) -> None:
        """Reads its greeting."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if not (await reader.readline()).startswith(b"220 "):
                raise ConnectionError("no greeting")
            writer.write(b"QUIT\r\n")
            await reader.readline()
        finally:
            writer.close()
