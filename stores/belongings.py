"""What somebody owns, read piece by piece: to hand it over, and to have it erased."""

from uuid import UUID

import msgspec

from domain.resources import Resource
from stores.postgres import Database
from stores.resources import TABLE

FIRST = UUID(int=0)
"""Before every id."""
SINCE_HOURS = 24
"""How long after a resource was erased its events are looked at: they are published by then."""
EMPTIED = 100
"""Events that are emptied at a time: each may be large."""


class Told(msgspec.Struct, frozen=True):
    """An event of the journal: the object's version after it, and its JSON as it stands there."""

    version: int
    event: bytes


class Belongings:
    """Reading what accounts own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resources(self, owner: UUID, after: UUID, limit: int) -> list[Resource]:
        """Resources of `owner` with ids above `after`, by id, the deleted ones too. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT * FROM resources WHERE owner_id = $1 AND id > $2 AND title <> '' ORDER BY id LIMIT $3",
            owner,
            after,
            limit,
        )
        return [TABLE.state(row) for row in rows]

    async def contents(self, owner: UUID, after: UUID, limit: int) -> list[UUID]:
        """Ids above `after`, in order, of those of which something is left, the deleted ones too. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT id FROM resources WHERE owner_id = $1 AND id > $2 AND title <> ''
               ORDER BY id LIMIT $3""",
            owner,
            after,
            limit,
        )
        return [row["id"] for row in rows]

    async def left_behind(self, limit: int) -> dict[UUID, list[UUID]]:
        """Contents of accounts that were erased, by account, `limit` at most. Raises StoresAway."""
        # One look at the index for each account, however many resources there are in all.
        rows = await self._database.fetch(
            """SELECT left_behind.* FROM accounts a CROSS JOIN LATERAL (
                   SELECT owner_id, id FROM resources WHERE owner_id = a.id AND title <> '' LIMIT $1
               ) AS left_behind WHERE a.status = 'erased' LIMIT $1""",
            limit,
        )
        found: dict[UUID, list[UUID]] = {}
        for row in rows:
            found.setdefault(row["owner_id"], []).append(row["id"])
        return found

    async def empty(self) -> None:
        """Take the contents of resources that were erased lately out of the journal's events.

        Piece by piece, for a history may be of any length. Raises StoresAway.
        """
        emptied = EMPTIED
        while emptied == EMPTIED:
            status = await self._database.execute(
                """UPDATE journal SET event = jsonb_set(event::jsonb, '{data}',
                       (event::jsonb->'data') - '{title,body,tags,attributes,status}'::text[])::json
                   WHERE ctid = ANY(ARRAY(
                       SELECT j.ctid FROM resources r JOIN journal j ON j.aggregate_id = r.id AND j.noun = 'resources'
                       WHERE r.title = '' AND r.updated_at > now() - make_interval(hours => $2)
                           AND (j.event::jsonb->'data') ?| '{title,body,tags,attributes,status}'::text[] LIMIT $1))""",
                EMPTIED,
                SINCE_HOURS,
            )
            emptied = int(status.split()[-1])

    async def history(
        self, noun: str, aggregate: UUID, after: int, *, limit: int = 200, most_bytes: int = 1 << 20
    ) -> list[Told]:
        """Events of an object behind the version `after`, in order: `limit` of them and `most_bytes`, or one event.

        An account and its sessions have one id: it is the noun that tells them apart. Raises StoresAway.
        """
        # Bounded twice, as the journal is where it is read for publication (stores/aggregates.py).
        rows = await self._database.fetch(
            """SELECT version, event FROM (
                   SELECT version, event, row_number() OVER so_far AS number,
                       sum(octet_length(event::text)) OVER so_far AS bytes
                   FROM (
                       SELECT version, event, sum(pg_column_size(event)) OVER (ORDER BY version) AS stored,
                           row_number() OVER (ORDER BY version) AS place
                       FROM (
                           SELECT version, event FROM journal WHERE aggregate_id = $1 AND version > $2 AND noun = $5
                           ORDER BY version LIMIT $3
                       ) AS next
                   ) AS packed
                   WHERE stored <= $4 OR place = 1
                   WINDOW so_far AS (ORDER BY version)
               ) AS unpacked
               WHERE bytes <= $4 OR number = 1 ORDER BY version""",
            aggregate,
            after,
            limit,
            most_bytes,
            noun,
        )
        return [Told(row["version"], row["event"].encode()) for row in rows]
