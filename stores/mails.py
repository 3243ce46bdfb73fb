"""Mails that were sent: one row each, so that none is sent twice, and that no address gets too many."""

from datetime import datetime
from uuid import UUID

import msgspec

from stores.postgres import Database

KEPT_DAYS = 31
"""How long a row stays; of an erased account one day, in which it still bounds what its address gets."""
MOST = 4_000
"""Rows of one account that are read: more than may be asked for in KEPT_DAYS (domain/account_mails.py)."""

_PIECE_OF = "DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE {} ORDER BY sent_at LIMIT $1)"
_OF_NOBODY = _PIECE_OF.format("account_id IS NULL AND sent_at < now() - interval '1 day'")
_OLD = _PIECE_OF.format(f"sent_at < now() - interval '{KEPT_DAYS} days'")
"""One each, by an index each: together they would walk over every mail of a month to find hardly any."""


class Sent(msgspec.Struct, frozen=True):
    """A mail that was sent: the sort of it, and when."""

    kind: str
    sent_at: datetime


class Mails:
    """The table of sent mails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def was_sent(self, id: str) -> bool:
        """True if the mail about this event was sent. Raises StoresAway."""
        return await self._database.fetchrow("SELECT 1 FROM mails WHERE id = $1", id) is not None

    async def to(self, recipient: str, kind: str) -> int:
        """How many of a kind an address got within a day. Raises StoresAway."""
        row = await self._database.fetchrow(
            """SELECT count(*) AS count FROM mails
               WHERE recipient = $1 AND kind = $2 AND sent_at > now() - interval '1 day'""",
            recipient,
            kind,
        )
        return int(row["count"])

    async def note(self, id: str, account: UUID, recipient: str, kind: str) -> None:
        """The mail server has taken it. Raises StoresAway."""
        await self._database.execute(
            """INSERT INTO mails (id, account_id, recipient, kind)
               VALUES ($1, (SELECT id FROM accounts WHERE id = $2 AND status <> 'erased'), $3, $4)
               ON CONFLICT (id) DO NOTHING""",
            id,
            account,
            recipient,
            kind,
        )

    async def of(self, account: UUID) -> list[Sent]:
        """The mails about an account, oldest first. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT kind, sent_at FROM mails WHERE account_id = $1 ORDER BY sent_at, id LIMIT $2", account, MOST
        )
        return [Sent(row["kind"], row["sent_at"]) for row in rows]

    async def sweep(self) -> int:
        """Remove rows that bound nothing any more and that nobody is shown; how many. Raises StoresAway."""
        return await self._database.in_pieces(_OF_NOBODY) + await self._database.in_pieces(_OLD)
