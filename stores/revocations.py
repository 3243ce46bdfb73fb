"""Which sessions have ended while access tokens of theirs are still about.

The worker writes them to a stream in Redis before it answers (`tell`), and the stream is read by every front a few
times a second. What PostgreSQL knows of it is the truth: it is read every few seconds, and as often as the stream while
Redis is away. An entry is forgotten when the last token of its session has expired.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

import msgspec

from domain.sessions import ENDED_KEPT, Ended
from stores.postgres import Database, StoresAway
from stores.redis import Redis, RedisAway
from stores.sessions import SessionStore

log = logging.getLogger("yeoul.stores.revocations")

POLL_S = 0.2
"""How often Redis is asked for new ones, seconds."""
SILENT_S = 0.4
"""A stream that was not read for so long, seconds, is not waited for: PostgreSQL is asked."""
SYNC_S = 5.0
"""How often PostgreSQL is asked although the stream is read, seconds."""
MARGIN = timedelta(minutes=2)
"""How much later than it says a session's end may be seen in PostgreSQL: clocks differ, and commits take time."""
PURGE_S = 60.0
FIRST_S = 1.0
"""How long a front's start waits until it knows them, seconds."""
PIECE = 1_000
_KEPT_S = int(ENDED_KEPT.total_seconds())

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[UUID, float]]).decode


def _key(redis: Redis) -> str:
    return f"{redis.prefix}:sessions:ended"


async def tell(redis: Redis, ended: Iterable[Ended]) -> None:
    """Write ended sessions, each with when it may be forgotten, to the stream. Raises RedisAway."""
    entries = [(one.id, (one.at + ENDED_KEPT).timestamp()) for one in ended]
    if entries:
        oldest = int((time.time() - _KEPT_S) * 1000)
        await redis.exchange(
            [
                ("XADD", _key(redis), "MINID", "~", oldest, "*", "ended", _encode(entries)),
                ("EXPIRE", _key(redis), _KEPT_S),
            ]
        )


class Revoked:
    """What a front process knows of ended sessions. `session in revoked` asks nobody."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._sessions = SessionStore(database)
        self._redis = redis
        self._until: dict[UUID, float] = {}
        self._watched: dict[UUID, set[Callable[[], None]]] = {}
        self._place: bytes | str = "0-0"
        self._heard_at = self._synced_at = float("-inf")
        self._since = datetime.now(UTC) - ENDED_KEPT
        self._synced = asyncio.Event()

    def __contains__(self, session: UUID | None) -> bool:
        return session in self._until

    def add(self, session: UUID, until: float | None = None) -> None:
        """This session has ended; it may be forgotten at `until` (Unix seconds)."""
        if session not in self._until:
            self._until[session] = time.time() + _KEPT_S if until is None else until
            for call in tuple(self._watched.get(session, ())):
                call()

    @contextlib.contextmanager
    def watch(self, session: UUID | None, call: Callable[[], None]) -> Iterator[None]:
        """Within it, `call` is called when the session ends."""
        if session is None:
            yield
            return
        calls = self._watched.setdefault(session, set())
        calls.add(call)
        try:
            yield
        finally:
            calls.discard(call)
            if not calls:
                self._watched.pop(session, None)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Within it, what others end gets known here. It begins when all is known, or after FIRST_S at the latest."""
        tasks = [asyncio.create_task(self._again(step)) for step in (self._hear, self._sync, self._purge)]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_S):
                    await self._synced.wait()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, step: Callable[[], Any]) -> None:
        """For ever: whatever a step fails of is told, and no reason to trust every token from then on."""
        while True:
            try:
                await step()
            except (RedisAway, StoresAway) as error:
                log.debug("ended sessions can't be asked for: %s", error)
            except Exception:
                log.exception("ended sessions could not be read; they are asked for again")
            await asyncio.sleep(POLL_S)

    async def _hear(self) -> None:
        entries: list[Any] = [()] * PIECE
        while len(entries) == PIECE:
            with self._redis.use() as client:
                found = await client.xread({_key(self._redis): self._place}, count=PIECE)
            self._heard_at = monotonic()
            entries = found[0][1] if found else []
            for place, fields in entries:
                self._place = place
                self._take(_decode(fields[b"ended"]))

    def _take(self, told: Iterable[tuple[UUID, float]]) -> None:
        now = time.time()
        for session, until in told:
            if until > now:
                self.add(session, until)

    async def _sync(self) -> None:
        now = monotonic()
        if now - self._heard_at < SILENT_S and now - self._synced_at < SYNC_S:
            return
        began = datetime.now(UTC)
        found = await self._sessions.ended(self._since)
        self._take((session, (at + ENDED_KEPT).timestamp()) for session, at in found.items())
        self._since, self._synced_at = began - MARGIN, now
        self._synced.set()

    async def _purge(self) -> None:
        await asyncio.sleep(PURGE_S)
        now = time.time()
        for session in [session for session, until in self._until.items() if until <= now]:
            del self._until[session]
