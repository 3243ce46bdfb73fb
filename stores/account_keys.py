"""The wrapped keys of all accounts: which sealing key wrapped them, and wrapping them anew, step by step."""

from collections.abc import Callable
from uuid import UUID

import msgspec

from stores.postgres import Database

STEP = 500
FIRST = UUID(int=0)
"""Before every account."""


class Step(msgspec.Struct, frozen=True):
    """One step: the last account it looked at (None at the end), and how many keys it wrapped anew."""

    last: UUID | None
    wrapped: int


class AccountKeys:
    """All wrapped keys. The first bytes of each name the sealing key (security.fields.key_id)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> dict[bytes, int]:
        """How many keys each sealing key has wrapped, by the id of that one. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT substring(wrapped FOR 4) AS id, count(*) AS count FROM account_keys GROUP BY 1"
        )
        return {bytes(row["id"]): row["count"] for row in rows}

    async def rewrap(self, after: UUID, wrapped_by: list[bytes], anew: Callable[[UUID, bytes], bytes]) -> Step:
        """Wrap the next STEP keys behind `after` that one of `wrapped_by` has wrapped. Raises StoresAway.

        Each is replaced only if it is still what was read: one that was erased meanwhile does not come back.
        """
        rows = await self._database.fetch(
            """SELECT account_id, wrapped FROM account_keys
               WHERE account_id > $1 AND substring(wrapped FOR 4) = ANY($2) ORDER BY account_id LIMIT $3""",
            after,
            wrapped_by,
            STEP,
        )
        if not rows:
            return Step(None, 0)
        changed = await self._database.fetch(
            """UPDATE account_keys k SET wrapped = n.wrapped
               FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n(account_id, was, wrapped)
               WHERE k.account_id = n.account_id AND k.wrapped = n.was RETURNING 1""",
            [row["account_id"] for row in rows],
            [row["wrapped"] for row in rows],
            [anew(row["account_id"], bytes(row["wrapped"])) for row in rows],
        )
        return Step(rows[-1]["account_id"], len(changed))
