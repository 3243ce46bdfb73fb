"""Records that could not be handled: one row each, written in the transaction of the batch that they were part of."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from stores.postgres import Database, away_is_known

_EPOCH = datetime.fromtimestamp(0, UTC)


STATES = ("parked", "requested", "replayed", "dropped")
NOT_PARKED = "not parked any more"
"""Why a letter is not settled that somebody else has settled before."""
ERASED = "what it held was erased with its account"
"""The error of a letter that an erasure has emptied."""
EMPTIED = 100
"""Letters that are emptied at a time: each may be large."""
MOST_BYTES = 16 << 20
"""Bytes of letters, as they came, that are read at a time where there may be any number; one letter may be larger."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it came, where it was, and why it could not be handled. `produced_at` in milliseconds since 1970.

    Of a command that can be read: its `operation`, which is not forgotten while this is parked, its `actor` and its
    `subject`, with whom it goes. Of an event of ours: its `subject`.
    """

    group: str
    topic: str
    topic_id: UUID
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    produced_at: int | None
    code: str
    error: str
    handler: str
    attempts: int
    operation: UUID | None = None
    actor: UUID | None = None
    subject: UUID | None = None


class Parked(Letter, frozen=True, kw_only=True):
    """A dead letter in its row."""

    id: int
    state: str
    parked_at: datetime


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as a list shows it, without what came. `size`: bytes of its value, None of none."""

    id: int
    state: str
    group: str
    topic: str
    partition: int
    offset: int
    code: str
    error: str
    handler: str
    attempts: int
    parked_at: datetime
    size: int | None


_LISTED = """id, state, consumer_group AS group, topic, partition, "offset", code, error, handler, attempts, parked_at,
    octet_length(value) AS size"""
# Each group, topic and state that letters have together: from one to the next in the index, however many have the same.
_KINDS = """
    RECURSIVE kinds AS (
        (SELECT consumer_group, topic, state FROM dead_letters ORDER BY consumer_group, topic, state LIMIT 1)
        UNION ALL
        SELECT next.* FROM kinds CROSS JOIN LATERAL (
            SELECT consumer_group, topic, state FROM dead_letters d
            WHERE (d.consumer_group, d.topic, d.state) > (kinds.consumer_group, kinds.topic, kinds.state)
            ORDER BY consumer_group, topic, state LIMIT 1
        ) AS next
    )"""

# The first letters of `chosen`, in whole: PostgreSQL knows the size of a value without unpacking it.
_WHOLE = f"""
    SELECT dead_letters.* FROM (
        SELECT id, sum(size) OVER so_far AS bytes, row_number() OVER so_far AS number
        FROM (
            SELECT id, coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0)
                + octet_length(headers::text) AS size
            FROM chosen JOIN dead_letters USING (id)
        ) AS sized WINDOW so_far AS (ORDER BY id)
    ) AS first JOIN dead_letters USING (id) WHERE bytes <= {MOST_BYTES} OR number = 1 ORDER BY id"""


async def park(connection: Any, letters: Sequence[Letter]) -> None:
    """Write the rows, in the caller's transaction; one that is there stays as it is. Raises StoresAway."""
    if not letters:
        return
    with away_is_known():
        await connection.executemany(
            """INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", key, value, headers,
                   timestamp_ms, code, error, handler, attempts, operation, actor, subject)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING""",
            [
                (
                    letter.group, letter.topic, letter.topic_id, letter.partition, letter.offset, letter.key,
                    letter.value, _headers_to_json(letter.headers), letter.produced_at, letter.code,
                    storable(letter.error), letter.handler, letter.attempts, letter.operation,
                    letter.actor, letter.subject,
                )
                for letter in letters
            ],
        )  # fmt: skip
        if subjects := [letter.subject for letter in letters if letter.subject is not None]:
            # A reader may come by days after an erasure: the sweep has been there, and has to look again.
            await connection.execute(
                "UPDATE resources SET journal_emptied_at = NULL WHERE id = ANY($1) AND journal_emptied_at IS NOT NULL",
                subjects,
            )


def storable(text: str) -> str:
    """The text as a column can hold it: what an exception says of itself may hold a NUL, or half a character."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def _headers_to_json(headers: Sequence[tuple[str, bytes | None]]) -> str:
    # Values are bytes of any kind, which JSON is not: as hex.
    return msgspec.json.encode([[name, None if value is None else value.hex()] for name, value in headers]).decode()


def _headers_from_json(text: str) -> tuple[tuple[str, bytes | None], ...]:
    pairs = msgspec.json.decode(text)
    return tuple((name, None if value is None else bytes.fromhex(value)) for name, value in pairs)


def parked_from(row: Any) -> Parked:
    """The dead letter in a row."""
    produced_at, older = row["timestamp_ms"], row["produced_at"]
    if produced_at is None and older is not None:
        produced_at = (older - _EPOCH) // timedelta(milliseconds=1)
    return Parked(
        id=row["id"], group=row["consumer_group"], topic=row["topic"], topic_id=row["topic_id"],
        partition=row["partition"], offset=row["offset"], key=row["key"], value=row["value"],
        headers=_headers_from_json(row["headers"]), produced_at=produced_at, code=row["code"], error=row["error"],
        handler=row["handler"], attempts=row["attempts"], operation=row["operation"], actor=row["actor"],
        subject=row["subject"], state=row["state"], parked_at=row["parked_at"],
    )  # fmt: skip


class DeadLetters:
    """Listing and settling dead letters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def listed(
        self, *, group: str | None, state: str | None, topic: str | None, limit: int, after: int
    ) -> list[Listed]:
        """Rows with an id above `after`, oldest first, with what they are but not what came. Raises StoresAway."""
        if (group, state, topic) == (None, None, None):
            rows = await self._database.fetch(
                f"SELECT {_LISTED} FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2", after, limit
            )
        else:
            rows = await self._database.fetch(
                f"""WITH {_KINDS}, found AS (
                        SELECT place.id FROM kinds CROSS JOIN LATERAL (
                            SELECT id FROM dead_letters d
                            WHERE d.consumer_group = kinds.consumer_group AND d.topic = kinds.topic
                                AND d.state = kinds.state AND id > $1
                            ORDER BY consumer_group, topic, state, id LIMIT $5
                        ) AS place
                        WHERE ($2::text IS NULL OR consumer_group = $2) AND ($3::text IS NULL OR state = $3)
                            AND ($4::text IS NULL OR topic = $4)
                        ORDER BY id LIMIT $5
                    )
                    SELECT {_LISTED} FROM found JOIN dead_letters USING (id) ORDER BY id""",
                after,
                group,
                state,
                topic,
                limit,
            )
        return [Listed(**row) for row in rows]

    async def get(self, id: int) -> Parked | None:
        """One row. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM dead_letters WHERE id = $1", id)
        return None if row is None else parked_from(row)

    async def named(self, ids: Sequence[int]) -> list[Listed]:
        """Those of these that there are, oldest first, without what came. Raises StoresAway."""
        rows = await self._database.fetch(
            f"SELECT {_LISTED} FROM dead_letters WHERE id = ANY($1) ORDER BY id", list(ids)
        )
        return [Listed(**row) for row in rows]

    async def newest(self) -> int:
        """The highest id; 0 of none. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT id FROM dead_letters ORDER BY id DESC LIMIT 1")
        return 0 if row is None else row["id"]

    async def first(self, ids: Sequence[int]) -> list[Parked]:
        """The first of these, oldest first: as many as MOST_BYTES hold, and one at least. Raises StoresAway."""
        rows = await self._database.fetch(f"WITH chosen AS (SELECT unnest($1::bigint[]) AS id) {_WHOLE}", list(ids))
        return [parked_from(row) for row in rows]

    async def settle(self, id: int, state: str, *, was: Sequence[str] = ("parked",), error: str | None = None) -> bool:
        """Move a row to another state, and give it another error; False if it was in none of the states `was`.

        Raises StoresAway.
        """
        status = await self._database.execute(
            """UPDATE dead_letters SET state = $2, settled_at = now(), error = coalesce($4, error)
               WHERE id = $1 AND state = ANY($3)""",
            id,
            state,
            list(was),
            None if error is None else storable(error),
        )
        return status != "UPDATE 0"

    async def empty(self, topic: str, *, actors: Sequence[UUID] = (), subjects: Sequence[UUID] = ()) -> None:
        """Take the contents out of commands on `topic` that these have sent, or that are for these.

        They were erased, so nothing of it is to be done any more: what is parked is dropped. Raises StoresAway.
        """
        await self._database.in_pieces(
            """UPDATE dead_letters SET value = NULL, headers = '[]', error = $1,
                   state = CASE state WHEN 'parked' THEN 'dropped' ELSE state END,
                   settled_at = coalesce(settled_at, now())
               WHERE state <> 'requested' AND id = ANY(ARRAY(
                   SELECT id FROM dead_letters WHERE value IS NOT NULL AND topic = $2 AND state <> 'requested'
                       AND (actor = ANY($3::uuid[]) OR subject = ANY($4::uuid[])) LIMIT $5))""",
            ERASED,
            topic,
            list(actors),
            list(subjects),
            piece=EMPTIED,
        )

    async def empty_events(self, topic: str, subjects: Sequence[UUID], members: Sequence[str]) -> None:
        """Take `members` out of the data of events on `topic` about these, in whatever state. Raises StoresAway.

        Each stays in its state, for its group may still have to count it. What is no event stays as it came.
        """
        # Of what was emptied the subject is forgotten, so that each is found once. The error may quote what it held.
        await self._database.in_pieces(
            """UPDATE dead_letters d SET value = coalesce(emptied, d.value), subject = NULL,
                   error = CASE WHEN emptied IS NULL THEN error ELSE $1 END
               FROM (
                   SELECT id, without_members(value, $2::text[]) AS emptied FROM dead_letters
                   WHERE value IS NOT NULL AND topic = $3 AND subject = ANY($4::uuid[]) LIMIT $5
               ) AS found WHERE d.id = found.id""",
            ERASED,
            list(members),
            topic,
            list(subjects),
            piece=EMPTIED,
        )

    async def requested(self, group: str, topics: Sequence[str], partitions: Sequence[int], after: int) -> list[Parked]:
        """What the group was asked to take again, of partitions it owns, in whatever life.

        The first of them with an id above `after`, as many as MOST_BYTES hold, and one at least. Raises StoresAway.
        """
        rows = await self._database.fetch(
            f"""WITH chosen AS (
                    SELECT id FROM dead_letters WHERE consumer_group = $1 AND state = 'requested' AND id > $4
                        AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[])) ORDER BY id LIMIT 100
                ) {_WHOLE}""",
            group,
            list(topics),
            list(partitions),
            after,
        )
        return [parked_from(row) for row in rows]

    async def not_handled(self, group: str, topic_id: UUID, partition: int, begin: int, end: int) -> set[int]:
        """Offsets from `begin` to `end` (excluded) that were parked and have not been replayed. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT "offset" FROM dead_letters WHERE consumer_group = $1 AND topic_id = $2 AND partition = $3
               AND "offset" >= $4 AND "offset" < $5 AND state <> 'replayed'""",
            group,
            topic_id,
            partition,
            begin,
            end,
        )
        return {row["offset"] for row in rows}

    async def groups(self) -> set[str]:
        """The groups that have any, in whatever state. Raises StoresAway."""
        rows = await self._database.fetch(f"WITH {_KINDS} SELECT DISTINCT consumer_group FROM kinds")
        return {row["consumer_group"] for row in rows}

    async def counts(self) -> dict[str, int]:
        """How many are parked, by group. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT consumer_group, count(*) FROM dead_letters WHERE state = 'parked' GROUP BY consumer_group"
        )
        return {row["consumer_group"]: row["count"] for row in rows}
