"""A database that tells what its statements read."""

import json
from typing import Any

from stores.postgres import Database


class Explaining(Database):
    """Explains each statement beside running it. The plans are the generic ones of the product."""

    def __init__(self, url: str) -> None:
        super().__init__(url, size=1, process="tests", patience_s=60.0)
        self._read: list[int] = []
        self.sequential: list[str] = []
        """Statements that read a table from its beginning to its end."""

    def looked_at(self) -> int:
        """Rows that the statements since the last time read at most, those of the largest one."""
        most = max(self._read, default=0)
        self._read.clear()
        return most

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        await self._explain("EXPLAIN (ANALYZE, FORMAT JSON)", query, arguments)
        return await super().fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        await self._explain("EXPLAIN (ANALYZE, FORMAT JSON)", query, arguments)
        return await super().fetchrow(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> Any:
        await self._explain("EXPLAIN (FORMAT JSON)", query, arguments)  # once is enough for what changes something
        return await super().execute(query, *arguments)

    async def _explain(self, how: str, query: str, arguments: tuple[Any, ...]) -> None:
        async with self.connection() as connection:
            (plan,) = json.loads(await connection.fetchval(f"{how} {query}", *arguments))
        total = 0
        stack = [plan["Plan"]]
        while stack:
            node = stack.pop()
            stack += node.get("Plans", [])
            if "Relation Name" in node:
                if node["Node Type"] == "Seq Scan":
                    self.sequential.append(f"{node['Relation Name']}: {query}")
                removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
                read = node.get("Actual Rows", 0) + sum(node.get(name, 0) for name in removed)
                total += int(read * node.get("Actual Loops", 1))  # each is the mean of a loop
        self._read.append(total)
