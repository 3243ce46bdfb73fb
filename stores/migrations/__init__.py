"""Numbered SQL files, applied in order, each in a transaction of its own, under a lock that two starts can't share."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg

from config import Settings
from stores.postgres import away_is_known

_LOCK = 0x7965_6F75_6C  # "yeoul": the advisory lock that one migration holds
_FOLDER = Path(__file__).parent


def run(settings: Settings) -> list[str]:
    """Bring the database up to date; returns the names applied now. Raises StoresAway."""
    return asyncio.run(apply(settings.postgres_url))


async def apply(url: str) -> list[str]:
    """As `run`, on a loop."""
    with away_is_known():
        connection = await asyncpg.connect(url, timeout=5.0)
        try:
            return await _apply(connection)
        finally:
            await connection.close()


async def _apply(connection: Any) -> list[str]:
    # Of the session, not of a transaction: it covers all files, and ends with the connection whatever happens.
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done = {row["name"] for row in await connection.fetch("SELECT name FROM migrations")}
    applied = []
    for path in sorted(_FOLDER.glob("[0-9]*.sql")):
        if path.stem not in done:
            async with connection.transaction():
                await connection.execute(path.read_text())
                await connection.execute("INSERT INTO migrations (name) VALUES ($1)", path.stem)
            applied.append(path.stem)
    return applied
