"""Full text: what a search of resources offers, and how PostgreSQL does it.

The index is that of the column `search` (stores/vectors.py), which the statement that commits a resource writes:
whoever was answered finds what was written.
"""

from typing import Any, Protocol
from uuid import UUID

import msgspec

from domain.access import Actor
from domain.resources import Resource
from domain.words import Term
from stores import vectors
from stores.narrowing import Condition, Filter, Narrowed, Statement
from stores.postgres import Database
from stores.resource_rows import READ, state_from

FEW = 300
"""Found resources of which it is quicker to look at each, whether it may be seen, than to ask the index for that."""
REMEMBERED = 1_000
MOST_RANKED = 2_000
"""Found resources that are ranked; of words that are in more, the newest of them are."""
MOST_LOOKED = 10_000
"""Newest resources that are looked through for words that are in too many."""


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """A question: every term must be there. `after`: the score and id of the last one seen."""

    terms: tuple[Term, ...]
    visible_to: Actor
    limit: int
    filters: tuple[Filter, ...] = ()
    after: tuple[float, UUID] | None = None


class Hit(msgspec.Struct, frozen=True):
    """A resource that was found. A higher score is a better one; the scores of one question compare, no others."""

    resource: Resource
    score: float


class Search(Protocol):
    """Finds resources by their text. tests/stores/test_search.py says what each implementation must do."""

    async def find(self, sought: Sought) -> list[Hit]:
        """At most `limit`, the best first, then by id downwards; only what may be seen. Raises StoresAway."""


class PostgresSearch:
    """Search by the index that the tables have."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._common: dict[Any, None] = {}
        """Questions that more than FEW answer, or did: for those the index is asked for everything at once."""

    async def find(self, sought: Sought) -> list[Hit]:
        """See Search."""
        text = vectors.query(sought.terms)
        question = (text, sought.filters)
        common = question in self._common
        rows, total = await self._all(sought, text, MOST_RANKED if common else FEW, scoped=common)
        if not common and total > FEW:
            if len(self._common) >= REMEMBERED:
                del self._common[next(iter(self._common))]
            self._common[question] = None
            rows, total = await self._all(sought, text, MOST_RANKED, scoped=True)
        if total > MOST_RANKED:
            rows = await self._newest(sought, text)
        return [Hit(state_from(row), row["score"]) for row in rows]

    async def _all(self, sought: Sought, text: str, most: int, *, scoped: bool) -> tuple[list[Any], int]:
        """The best of all that match, and how many match: of more than `most` these are some only.

        `scoped`: what the caller may not see does not count as a match.
        """
        asked = Narrowed(sought.filters, sought.visible_to, text)
        matching = [Condition("deleted_at IS NULL"), *asked.indexed(scoped=scoped)]
        statement = Statement()
        rows = await self._database.fetch(
            f"SELECT {READ}, score, total FROM (SELECT *, {_score(statement, text)} AS score FROM "
            f"(SELECT *, count(*) OVER () AS total FROM (SELECT {READ}, search FROM resources "
            f"WHERE {statement.all_of(matching)} LIMIT {most + 1}) AS m) AS counted "
            f"WHERE {statement.all_of(asked.plain + asked.scope)}) AS scored {_best(statement, sought)}",
            *statement.arguments,
        )
        return rows, rows[0]["total"] if rows else await self._matching(matching, most)

    async def _matching(self, matching: list[Condition], most: int) -> int:
        statement = Statement()
        row = await self._database.fetchrow(
            f"SELECT count(*) AS total FROM (SELECT 1 FROM resources WHERE {statement.all_of(matching)} "
            f"LIMIT {most + 1}) AS m",
            *statement.arguments,
        )
        total: int = row["total"]
        return total

    async def _newest(self, sought: Sought, text: str) -> list[Any]:
        asked = Narrowed(sought.filters, sought.visible_to)
        statement = Statement()
        score = _score(statement, text)
        found = Condition("search @@ {}::text::tsquery", (text,))
        conditions = statement.all_of([found, *asked.plain, *asked.deep, *asked.scope])
        return await self._database.fetch(
            f"SELECT {READ}, score FROM (SELECT *, {score} AS score FROM (SELECT {READ}, search FROM "
            f"(SELECT {READ}, search FROM resources WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC "
            f"LIMIT {MOST_LOOKED}) AS walked "
            f"WHERE {conditions} LIMIT {MOST_RANKED}) AS found) AS scored {_best(statement, sought)}",
            *statement.arguments,
        )


def _score(statement: Statement, text: str) -> str:
    return f"ts_rank(search, {statement.argument(text)}::text::tsquery)"


def _best(statement: Statement, sought: Sought) -> str:
    beyond = ""
    if sought.after is not None:
        score, id = map(statement.argument, sought.after)
        beyond = f"WHERE (score, id) < ({score}::float8::float4, {id}::uuid) "
    return f"{beyond}ORDER BY score DESC, id DESC LIMIT {statement.argument(sought.limit)}"
