"""A server that shuts down tells its clients so, and closes their connections a while later."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from config import Settings
from stores import StoresAway
from stores.postgres import Database, of

_FIELDS = (b"SFATAL", b"VFATAL", b"C57P01", b"Mterminating connection due to administrator command", b"")
_SAID = b"".join(field + b"\0" for field in _FIELDS)
GOODBYE = b"E" + (4 + len(_SAID)).to_bytes(4, "big") + _SAID
"""An ErrorResponse of PostgreSQL's protocol (version 3)."""


class Line:
    """What stands between a client and the server, and can say something in the server's name."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._clients: list[asyncio.StreamWriter] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self.connections += 1
        self._clients.append(writer)
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        passing = [asyncio.create_task(_pass(reader, to_server)), asyncio.create_task(_pass(from_server, writer))]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        for end in (writer, to_server):
            end.close()

    def say(self, message: bytes) -> None:
        """To every client that there is."""
        for client in self._clients:
            client.write(message)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)


@contextlib.asynccontextmanager
async def between(settings: Settings) -> AsyncIterator[tuple[Settings, Line]]:
    """Settings whose PostgreSQL is reached through a Line."""
    (folder,) = parse_qs(urlsplit(settings.postgres_url).query)["host"]
    line = Line(f"{folder}/.s.PGSQL.5432")
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = re.sub(r"\?.*", f"?host=127.0.0.1&port={port}&sslmode=disable", settings.postgres_url)
    try:
        yield msgspec.structs.replace(settings, postgres_url=url), line
    finally:
        server.close()


async def in_one_statement(database: Database) -> None:
    await database.fetch("SELECT 1")


async def in_a_transaction(database: Database) -> None:
    async with database.connection() as connection, connection.transaction():
        await connection.fetch("SELECT 1")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("ask", [in_one_statement, in_a_transaction])
async def test_a_connection_that_was_told_of_the_shutdown_is_away_and_not_used_again(
    settings: Settings, ask: Callable[[Database], Awaitable[None]]
) -> None:
    async with between(settings) as (through, line), contextlib.AsyncExitStack() as ending:
        database = of(through, "tests", size=1)
        ending.push_async_callback(database.close)
        assert [row["one"] for row in await database.fetch("SELECT 1 AS one")] == [1]
        line.say(GOODBYE)
        await asyncio.sleep(0.2)  # until the client has read it
        with pytest.raises(StoresAway, match="PostgreSQL is away"):
            await ask(database)
        # The server, which is there all the same, is asked over another one.
        assert [row["one"] for row in await database.fetch("SELECT 2 AS one")] == [2]
        assert line.connections == 2
