"""The program of the mail catcher: an SMTP server on loopback that keeps each mail as a file and delivers none.

    python -m embedded.catcher PORT FOLDER

Files are `<number>.eml`, numbered upwards; the newest MOST are kept. `X-To` is whom the sender named, which is what
counts: a `To` is only what the mail says.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from embedded.mail import MOST, caught
from embedded.state import write_private_bytes

MOST_BYTES = 1024 * 1024
"""Of one mail."""


class Catcher:
    """Keeps what comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """A mail has come: it is written, and the oldest are removed."""
        content = envelope.content or b""
        named = ", ".join(envelope.rcpt_tos).encode(errors="backslashreplace")
        there = caught(self._folder)
        number = int(there[-1].stem) + 1 if there else 1
        path = self._folder / f"{number}.eml"
        fresh = path.with_suffix(".new")
        try:
            body = content if isinstance(content, bytes) else content.encode()
            write_private_bytes(fresh, b"X-To: " + named + b"\r\n" + body)
            fresh.replace(path)  # a reader sees all of it, or nothing
        except OSError as error:
            return f"452 {error.strerror}"
        for old in there[: max(0, len(there) + 1 - MOST)]:
            old.unlink(missing_ok=True)
        return "250 caught"


async def serve(port: int, folder: Path) -> None:
    """Until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    catcher = Catcher(folder)
    server = await loop.create_server(
        lambda: SMTP(catcher, data_size_limit=MOST_BYTES, enable_SMTPUTF8=True, hostname="localhost", ident="yeoul"),
        "127.0.0.1",
        port,
    )
    async with server:
        await stop.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
