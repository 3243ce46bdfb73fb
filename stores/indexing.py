"""Resources of older versions get what they are found by; newer ones have it from the statement that wrote them."""

from stores.postgres import Database, away_is_known
from stores.resource_rows import READ, state_from
from stores.vectors import vector

MOST = 200
"""Rows at a time."""


class Indexing:
    """Fills the column `search` where it is empty."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> int:
        """Until no row is without; returns how many. Raises StoresAway. Several workers may do it at once."""
        filled = 0
        while found := await self._some():
            filled += found
        return filled

    async def _some(self) -> int:
        rows = await self._database.fetch(
            f"SELECT {READ} FROM resources WHERE search IS NULL ORDER BY id LIMIT {MOST}"
        )  # fmt: skip
        states = [state_from(row) for row in rows]
        async with self._database.connection() as connection:
            with away_is_known():
                # Of one that was written meanwhile the writer knows better.
                await connection.execute(
                    """UPDATE resources r SET search = w.search::tsvector
                       FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS w(id, version, search)
                       WHERE r.id = w.id AND r.version = w.version AND r.search IS NULL""",
                    [state.id for state in states],
                    [state.version for state in states],
                    [vector(state) for state in states],
                )
        return len(states)
