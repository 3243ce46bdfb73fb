"""A database that tells what its statements read."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from stores.postgres import Database

EXPLAIN = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_analyze = on;
    SET auto_explain.log_timing = off;
    SET auto_explain.log_format = json;
    SET client_min_messages = log"""


class Explaining(Database):
    """PostgreSQL tells of each statement how it was run: by the plans that the product has, not by others."""

    def __init__(self, url: str) -> None:
        super().__init__(url, size=1, process="tests", patience_s=60.0)
        self._read: list[int] = []
        self.sequential: list[str] = []
        """Tables that a statement read from the beginning to the end, with the statement."""

    def looked_at(self) -> int:
        """Rows that the statements since the last time read at most, those of the largest one."""
        most = max(self._read, default=0)
        self._read.clear()
        return most

    def forget(self) -> None:
        """Begin anew."""
        self._read.clear()
        self.sequential.clear()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """One that tells."""
        async with super().connection() as connection:
            await connection.execute(EXPLAIN)
            connection.add_log_listener(self._hear)
            try:
                yield connection
                await asyncio.sleep(0)  # what was told is handed over by the loop
            finally:
                connection.remove_log_listener(self._hear)

    def _hear(self, _: Any, message: asyncpg.PostgresLogMessage) -> None:
        _, found, plan = message.as_dict()["message"].partition("plan:\n")
        if found:
            self._note(json.loads(plan))

    def _note(self, told: dict[str, Any]) -> None:
        total = 0
        stack = [told["Plan"]]
        while stack:
            node = stack.pop()
            stack += node.get("Plans", [])
            # asyncpg asks for types that it does not know yet.
            if not node.get("Relation Name", "pg_").startswith("pg_"):
                if node["Node Type"] == "Seq Scan":
                    self.sequential.append(f"{node['Relation Name']}: {told['Query Text']}")
                removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
                read = node["Actual Rows"] + sum(node.get(name, 0) for name in removed)
                total += int(read * node["Actual Loops"])  # each is the mean of a loop
        self._read.append(total)
