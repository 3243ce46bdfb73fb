"""The versions of the metrics: what is declared, what serves, what is being built."""

from collections.abc import Iterable
from typing import Any

import msgspec

from domain.metrics import Metric
from domain.tables import Table
from stores.postgres import Database, away_is_known

_decode = msgspec.json.Decoder(Metric).decode
_LOCK = 7_305_511  # one number for all who change versions


class Registered(msgspec.Struct, frozen=True):
    """The tables that serve; and the names of those whose declaration has changed since, so they must be built anew."""

    tables: tuple[Table, ...]
    changed: tuple[str, ...]


class Metrics:
    """The table of versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, declared: Iterable[Metric]) -> Registered:
        """Begin what is new, retire what is declared no longer, keep what has changed as it was. Raises StoresAway."""
        wanted = {metric.name: metric for metric in declared}
        changed = []
        async with self._database.connection() as connection, connection.transaction():
            with away_is_known():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                serving = {table.metric.name: table for table in await tables(connection)}
                for name, table in serving.items():
                    if name not in wanted:
                        await connection.execute("UPDATE metrics SET state = 'retired' WHERE id = $1", table.id)
                    elif wanted[name].shape != table.metric.shape:
                        changed.append(name)
                    elif wanted[name] != table.metric:
                        # Another title or another time to keep: the rows stay what they are.
                        await connection.execute(
                            "UPDATE metrics SET declaration = $2 WHERE id = $1", table.id, _json(wanted[name])
                        )
                for name in wanted.keys() - serving.keys():
                    await begin(connection, wanted[name], "serving")
                return Registered(await tables(connection), tuple(sorted(changed)))

    async def serving(self) -> tuple[Table, ...]:
        """The tables that serve. Raises StoresAway."""
        async with self._database.connection() as connection:
            with away_is_known():
                return await tables(connection)


async def begin(connection: Any, metric: Metric, state: str) -> int:
    """A new version of a metric, in the caller's transaction; returns its number."""
    found: int = await connection.fetchval(
        """INSERT INTO metrics (name, version, declaration, state)
           SELECT $1, coalesce(max(version), 0) + 1, $2, $3 FROM metrics WHERE name = $1 RETURNING id""",
        metric.name,
        _json(metric),
        state,
    )
    return found


async def tables(connection: Any, state: str = "serving") -> tuple[Table, ...]:
    """The versions in this state, in the order of their names."""
    rows = await connection.fetch("SELECT id, declaration FROM metrics WHERE state = $1 ORDER BY name", state)
    return tuple(Table(row["id"], _decode(row["declaration"])) for row in rows)


def _json(metric: Metric) -> str:
    return msgspec.json.encode(metric).decode()
