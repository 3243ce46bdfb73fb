"""What somebody owns, read piece by piece: to hand it over, and to have it erased."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.resources import Resource
from stores.postgres import Database
from stores.resources import TABLE

FIRST = UUID(int=0)
"""Before every id."""
Place = tuple[datetime, UUID]
"""When an account was erased, and its id."""
EMPTIED = 100
"""Events that are emptied at a time: each may be large."""
CONTENTS = ("title", "body", "tags", "attributes", "status")
"""Members of an event's data that an erasure takes out of it."""
_CONTENTS = f"'{{{','.join(CONTENTS)}}}'::text[]"
_FULL = f"noun = 'resources' AND (event::jsonb->'data') ?| {_CONTENTS}"


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

    async def erased(self, after: Place, limit: int) -> list[Place]:
        """Accounts that were erased after the place `after`, in order. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT updated_at, id FROM accounts WHERE status = 'erased' AND (updated_at, id) > ($1, $2)
               ORDER BY updated_at, id LIMIT $3""",
            *after,
            limit,
        )
        return [(row["updated_at"], row["id"]) for row in rows]

    async def left_behind(self, owners: Sequence[UUID], limit: int) -> dict[UUID, list[UUID]]:
        """Resources of these of which something is left, by owner: `limit` of each at most. Raises StoresAway."""
        # Two looks at indexes for each, however many resources there are in all, and whatever was erased before.
        rows = await self._database.fetch(
            """SELECT left_behind.* FROM unnest($1::uuid[]) AS owner CROSS JOIN LATERAL (
                   (SELECT owner_id, id FROM resources WHERE owner_id = owner AND deleted_at IS NULL LIMIT $2)
                   UNION ALL
                   (SELECT owner_id, id FROM resources
                    WHERE owner_id = owner AND deleted_at IS NOT NULL AND title <> '' LIMIT $2)
               ) AS left_behind""",
            list(owners),
            limit,
        )
        found: dict[UUID, list[UUID]] = {}
        for row in rows:
            found.setdefault(row["owner_id"], []).append(row["id"])
        return found

    async def to_empty(self) -> list[UUID]:
        """Some of the erased resources that may still have contents in the journal or in dead letters.

        Raises StoresAway.
        """
        rows = await self._database.fetch(
            "SELECT id FROM resources WHERE title = '' AND journal_emptied_at IS NULL LIMIT $1", EMPTIED
        )
        return [row["id"] for row in rows]

    async def empty(self, resources: Sequence[UUID]) -> None:
        """Take the contents of these out of the journal's events. Raises StoresAway.

        Piece by piece, for a history may be of any length; each is looked at once.
        """
        await self._database.in_pieces(
            f"""UPDATE journal SET event = jsonb_set(event::jsonb, '{{data}}',
                    (event::jsonb->'data') - {_CONTENTS})::json
                WHERE ctid = ANY(ARRAY(
                    SELECT ctid FROM journal WHERE aggregate_id = ANY($1) AND {_FULL} LIMIT $2))""",
            list(resources),
            piece=EMPTIED,
        )

    async def emptied(self, resources: Sequence[UUID]) -> int:
        """Note that these have no contents anywhere, and are not to be looked for again; how many. Raises StoresAway.

        One that is parked about from now on has them looked for once more: stores.dead_letters.park.
        """
        # Not those that another worker is at just now: it may not come to its end.
        status = await self._database.execute(
            f"""UPDATE resources r SET journal_emptied_at = now() WHERE id = ANY($1)
                    AND NOT EXISTS (SELECT FROM journal WHERE aggregate_id = r.id AND {_FULL})""",
            list(resources),
        )
        return int(status.split()[-1])

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
