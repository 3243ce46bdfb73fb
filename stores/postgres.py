"""The way to PostgreSQL: one pool for each process, and one error for "it is away"."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg

from config import Settings

log = logging.getLogger("yeoul.stores.postgres")

AWAY = (
    OSError,
    asyncio.TimeoutError,
    ssl.SSLError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What asyncpg raises when the database can't be used now and may be later: nothing is wrong with the work."""

BUSY = (
    asyncpg.TransactionRollbackError,  # class 40: a deadlock, a serialization failure
    asyncpg.InsufficientResourcesError,  # class 53: no memory, no disk, no connections
    asyncpg.OperatorInterventionError,  # class 57: cancelled, shut down
    asyncpg.PostgresSystemError,  # class 58: its disk fails
    # A statement prepared before a migration; it is prepared anew by the next try.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
"""The same of a database that is there, and can't do this just now."""

UNFIT = (
    asyncpg.SyntaxOrAccessError,  # class 42: no such table or column, no right to it
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
"""What it raises when the database is not what this version needs: no other work would do better, and no waiting."""

SESSION = {
    "application_name": "yeoul",
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
    # The statements of the write path have many parts: planning them each time costs more than running them.
    "plan_cache_mode": "force_generic_plan",
    # Such a plan may be made while a table is empty, where a sequential scan looks best, and is kept: with 60,000 rows
    # a create took four times as long. Every statement of ours has an index to go by.
    "enable_seqscan": "off",
    "timezone": "UTC",
}


OPEN_S = 3.0
"""How long one attempt to connect may take, seconds. Whoever comes meanwhile waits for the end of the same one."""
TELL_EVERY_S = 60.0
"""How often the same refusal is told in the log, seconds."""
READY_S = 2.0
PIECE = 1_000
"""Rows that are read or changed at a time where there may be any number."""
LATE = f"no answer within {READY_S:g} s"
OPERATOR = "waits for an operator"
NEWEST_MIGRATION = max(path.stem for path in Path(__file__).with_name("migrations").glob("[0-9]*.sql"))
"""What the tables of this version need."""


class StoresAway(Exception):
    """PostgreSQL can't be used now. Nothing is lost; try again in a moment."""


class StoresUnfit(StoresAway):
    """PostgreSQL is there and refuses: it is not what this version needs. An operator has to mend that."""


class Connection(asyncpg.Connection):
    """A connection that is handed back as it is: our sessions are all alike, and a reset is a round trip each time."""

    async def reset(self, *, timeout: float | None = None) -> None:
        """Only what must not be handed on: an open transaction."""
        if self.is_in_transaction():
            await super().reset(timeout=timeout)


@contextlib.contextmanager
def away_is_known() -> Any:
    """Turns what asyncpg raises for an absent database into StoresAway, and for one that is unfit into StoresUnfit."""
    try:
        yield
    except AWAY as error:
        raise StoresAway(f"PostgreSQL is away: {str(error) or type(error).__name__}") from error
    except BUSY as error:
        raise StoresAway(f"PostgreSQL can't do it now: {error}") from error
    except UNFIT as error:
        # What it says is shown on one line; a hint stands on a line of its own.
        raise StoresUnfit("; ".join(str(error).splitlines())) from error


@contextlib.contextmanager
def _ended_if_confused(connection: Any) -> Iterator[None]:
    """A server that shuts down tells each client so, some time before it closes the connection.

    Until then asyncpg takes the connection for a good one, and refuses whatever is asked over it.
    """
    try:
        yield
    except asyncpg.OutdatedSchemaCacheError:  # an InternalClientError, too, of which asyncpg knows the way out
        raise
    except asyncpg.InternalClientError as error:
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError(str(error)) from error


class Database:
    """A pool that opens itself when the database is there, so that a process can start without it."""

    def __init__(self, url: str, *, size: int, process: str, patience_s: float) -> None:
        self._url = url
        self._size = size
        self._patience = patience_s
        self._process = process
        self._pool: Any = None
        self._opening: asyncio.Task[Any] | None = None
        self._told: dict[str, float] = {}

    async def _open(self) -> Any:
        """The pool. All who need it share one attempt, so that nobody waits for the attempts of those before."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def _connect(self) -> Any:
        async with asyncio.timeout(OPEN_S):
            return await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._size,
                timeout=OPEN_S,
                command_timeout=self._patience,
                connection_class=Connection,
                server_settings={**SESSION, "application_name": f"yeoul {self._process}"},
                max_inactive_connection_lifetime=0.0,
            )

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening = None
        # Looked at also when everybody who waited for it is gone.
        if not opening.cancelled() and opening.exception() is None:
            self._pool = opening.result()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection of the pool. Raises StoresAway."""
        try:
            with away_is_known():
                pool = self._pool or await self._open()
                connection = await pool.acquire(timeout=5.0)
            try:
                with away_is_known(), _ended_if_confused(connection):
                    yield connection
            finally:
                # Shielded by asyncpg; a connection that broke is thrown away by the pool.
                with contextlib.suppress(*AWAY):
                    await pool.release(connection, timeout=2.0)
        except StoresUnfit as error:
            self._tell(str(error))
            raise

    def _tell(self, reason: str) -> None:
        """Once a minute, however many meet it: some of them have another way, and say nothing."""
        now = monotonic()
        if now - self._told.get(reason, -TELL_EVERY_S) >= TELL_EVERY_S:
            self._told[reason] = now
            log.error("PostgreSQL refuses: %s (are the tables up to date? ./yeoul migrate)", reason)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """All rows. Raises StoresAway."""
        async with self.connection() as connection:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        """The first row, or None. Raises StoresAway."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """Run a statement. Raises StoresAway."""
        async with self.connection() as connection:
            status: str = await connection.execute(query, *arguments)
            return status

    async def in_pieces(self, statement: str, *arguments: Any, piece: int | None = None) -> int:
        """Run a statement that changes as many rows at most as its last argument says, until none is left; how many.

        So many are PIECE, or `piece` where a row may be large. Nothing is locked for long. Raises StoresAway.
        """
        most, total = piece or PIECE, 0
        while True:
            count = int((await self.execute(statement, *arguments, most)).split()[-1])
            total += count
            if count < most:
                return total

    async def ready(self) -> str:
        """`ok`, or why not, within READY_S: it does not answer, or is not what this version needs."""
        try:
            async with asyncio.timeout(READY_S):
                migrated = await self.fetchrow("SELECT 1 FROM migrations WHERE name = $1", NEWEST_MIGRATION)
        except StoresUnfit as error:
            return f"{OPERATOR}: {error}"
        except (StoresAway, TimeoutError, asyncpg.PostgresError) as error:
            return str(error) or LATE
        return "ok" if migrated else f"{OPERATOR}: the tables lack {NEWEST_MIGRATION} (./yeoul migrate)"

    def cut(self) -> None:
        """End every connection at once: whoever waits for an answer gets StoresAway. The next use opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def close(self) -> None:
        """Close the pool; a connection that does not close within 2 s is cut."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        if self._pool is not None:
            try:
                async with asyncio.timeout(2.0):
                    await self._pool.close()
            except (TimeoutError, *AWAY):
                self._pool.terminate()


def of(settings: Settings, process: str, size: int | None = None, patience_s: float = 5.0) -> Database:
    """The database that the settings name; `process` is shown in pg_stat_activity.

    A statement that takes longer than `patience_s` counts as unanswered: a database that is frozen is away, too.
    """
    return Database(settings.postgres_url, size=size or settings.postgres_pool, process=process, patience_s=patience_s)
