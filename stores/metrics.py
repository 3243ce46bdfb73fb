"""The versions of the metrics: what is declared, what serves, what is being built."""

from collections.abc import Iterable
from datetime import datetime
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


class Version(msgspec.Struct, frozen=True):
    """A version of a metric, in a state (building, serving, retired) since a moment."""

    id: int
    version: int
    state: str
    since: datetime
    metric: Metric


class Gone(Exception):
    """What was being built is not wanted any more: the metric was taken out of the file, or another build took over."""


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
                await connection.execute(
                    "UPDATE metrics SET state = 'retired', since = now() WHERE state <> 'retired' AND name <> ALL($1)",
                    list(wanted),
                )
                for name, table in serving.items():
                    if name not in wanted:
                        continue
                    if wanted[name].shape != table.metric.shape:
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

    async def versions(self) -> list[Version]:
        """All there are, by name and version. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT id, version, state, since, declaration FROM metrics ORDER BY name, version"
        )
        return [_version(row) for row in rows]

    async def build(self, metric: Metric, *, anew: bool) -> tuple[Version, bool]:
        """What is being built of a metric: what was begun if it is declared alike, unless `anew`, else a new version.

        Returns the version, and whether it was begun before. Raises StoresAway.
        """
        async with self._database.connection() as connection, connection.transaction():
            with away_is_known():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                found = await _building(connection, metric.name)
                if found is not None and found.metric.shape == metric.shape and not anew:
                    await connection.execute(
                        "UPDATE metrics SET declaration = $2 WHERE id = $1", found.id, _json(metric)
                    )
                    return found, True
                if found is not None:
                    await connection.execute(
                        "UPDATE metrics SET state = 'retired', since = now() WHERE id = $1", found.id
                    )
                await begin(connection, metric, "building")
                made = await _building(connection, metric.name)
                assert made is not None
                return made, False


async def swap(connection: Any, version: Version) -> None:
    """What was built serves from now on, in the caller's transaction. Raises Gone, StoresAway."""
    with away_is_known():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if await connection.fetchval("SELECT state FROM metrics WHERE id = $1", version.id) != "building":
            raise Gone(version.metric.name)
        await connection.execute(
            "UPDATE metrics SET state = 'retired', since = now() WHERE name = $1 AND state = 'serving'",
            version.metric.name,
        )
        await connection.execute("UPDATE metrics SET state = 'serving', since = now() WHERE id = $1", version.id)


async def ids(connection: Any, state: str = "serving") -> set[int]:
    """The numbers of the versions in this state."""
    return {row["id"] for row in await connection.fetch("SELECT id FROM metrics WHERE state = $1", state)}


async def _building(connection: Any, name: str) -> Version | None:
    row = await connection.fetchrow(
        "SELECT id, version, state, since, declaration FROM metrics WHERE name = $1 AND state = 'building'", name
    )
    return None if row is None else _version(row)


def _version(row: Any) -> Version:
    return Version(row["id"], row["version"], row["state"], row["since"], _decode(row["declaration"]))


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
