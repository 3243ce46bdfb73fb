"""What somebody owns, read piece by piece: to hand it over, and to have it erased."""

from uuid import UUID

import msgspec

from domain.resources import Resource
from stores.postgres import Database
from stores.resources import TABLE

FIRST = UUID(int=0)
"""Before every id."""
SINCE_HOURS = 24
"""How far back a look for what erased accounts left behind goes: nobody writes in their name any longer than that."""

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
            "SELECT * FROM resources WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT $3", owner, after, limit
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
        """Contents of accounts that were erased lately, by account, `limit` at most. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT r.owner_id, r.id FROM accounts a JOIN resources r ON r.owner_id = a.id
               WHERE a.status = 'erased' AND a.updated_at > now() - make_interval(hours => $2)
                   AND r.title <> '' LIMIT $1""",
            limit,
            SINCE_HOURS,
        )
        found: dict[UUID, list[UUID]] = {}
        for row in rows:
            found.setdefault(row["owner_id"], []).append(row["id"])
        return found

    async def empty(self) -> None:
        """Take the contents of erased resources out of the journal's events, of accounts that were erased lately.

        Piece by piece, for a history may be of any length. Raises StoresAway.
        """
        emptied = EMPTIED
        while emptied == EMPTIED:
            status = await self._database.execute(
                """UPDATE journal SET event = jsonb_set(event::jsonb, '{data}',
                       (event::jsonb->'data') - '{title,body,tags,attributes,status}'::text[])::json
                   WHERE ctid = ANY(ARRAY(
                       SELECT j.ctid FROM accounts a JOIN resources r ON r.owner_id = a.id
                           JOIN journal j ON j.aggregate_id = r.id AND j.noun = 'resources'
                       WHERE a.status = 'erased' AND a.updated_at > now() - make_interval(hours => $2) AND r.title = ''
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
