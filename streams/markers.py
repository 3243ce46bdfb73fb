"""What Redis knows of an operation before the table of operations does, and of those that ended nowhere.

    nothing → running → done | lost

`running`: it was sent, or is about to be. `done`: an answer was given, which the table has. `lost`: Kafka refused it,
or nobody knows whether Kafka has it. A retry sets `running` again. The table is the truth: whoever finds an operation
there does not ask for its marker.

Each attempt changes only what itself has written: another attempt, maybe of another front, knows better what became of
the operation. An attempt that fails leaves what was known before it.
"""

import asyncio
import logging
import time
from uuid import UUID

import msgspec

from stores.redis import Redis, RedisAway

log = logging.getLogger("yeoul.streams.markers")

LIFE_S = 24 * 3600
RUNNING, DONE, LOST = "running", "done", "lost"

# KEYS: the marker. ARGV: what must stand there, what shall stand there (both may be empty: nothing), life in seconds.
# The client asks once more when an answer got lost: then what shall stand there does already.
_REPLACE = """
local there = redis.call('GET', KEYS[1]) or ''
if there == ARGV[2] then
  return 1
end
if there ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 1
"""


class Marker(msgspec.Struct, array_like=True):
    """`since` in seconds since 1970. A `state` that is none of ours is of a newer version: something goes on.

    `fingerprint`: of the command; empty from fronts that do not name it yet.
    """

    actor: UUID | None
    since: float
    state: str = RUNNING
    fingerprint: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Marker).decode


class Attempt:
    """One try of an operation, and what it has written; made by whoever sends it."""

    def __init__(self, operation: UUID, actor: UUID | None, fingerprint: str) -> None:
        self.operation = operation
        self.actor = actor
        self.fingerprint = fingerprint
        self.before = b""
        self.mine = b""
        self.again = False
        """There was another before it: a failure that the table knows may be that one's."""
        self.lost = False
        # Its changes in the order in which they were asked for, whichever connection is quicker.
        self.turn = asyncio.Lock()


class Markers:
    """The markers of an installation."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def key(self, operation: UUID) -> str:
        """The marker's name in Redis."""
        return f"{self._redis.prefix}:op:{operation}"

    async def get(self, operation: UUID) -> Marker | None:
        """The marker of an operation. Raises RedisAway."""
        with self._redis.use() as client:
            return _read(await client.get(self.key(operation)))

    async def begin(self, attempt: Attempt) -> Marker | None:
        """Set `running` if there is nothing yet; else nothing is changed and what is there is returned.

        Raises RedisAway.
        """
        new = _write(attempt, RUNNING)
        with self._redis.use() as client:
            there = await client.set(self.key(attempt.operation), new, nx=True, get=True, ex=LIFE_S)
        if there is None or there == new:  # its own, if the first answer got lost and the client asked once more
            attempt.mine = new
            return None
        attempt.before = attempt.mine = there
        attempt.again = True
        return _read(there)

    async def run(self, attempt: Attempt) -> None:
        """It goes on: `running`, unless it is known to be lost."""
        async with attempt.turn:
            if not attempt.lost:
                await self._replace(attempt, _write(attempt, RUNNING))

    async def finish(self, attempt: Attempt) -> None:
        """Its answer was given."""
        async with attempt.turn:
            await self._replace(attempt, _write(attempt, DONE))

    async def lose(self, attempt: Attempt) -> None:
        """It may have ended nowhere; an earlier attempt goes on as it did."""
        async with attempt.turn:
            attempt.lost = True
            await self._replace(attempt, attempt.before or _write(attempt, LOST))

    async def withdraw(self, attempt: Attempt) -> None:
        """It never left."""
        async with attempt.turn:
            await self._replace(attempt, attempt.before)

    async def _replace(self, attempt: Attempt, new: bytes) -> None:
        try:
            with self._redis.use() as client:
                replaced = await client.eval(_REPLACE, 1, self.key(attempt.operation), attempt.mine, new, LIFE_S)
        except RedisAway:
            log.debug("the marker of %s was not changed", attempt.operation)
        else:
            if replaced:
                attempt.mine = new


def _write(attempt: Attempt, state: str) -> bytes:
    return _encode(Marker(attempt.actor, time.time(), state, attempt.fingerprint))


def _read(raw: bytes | None) -> Marker | None:
    if raw is None:
        return None
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError):
        log.warning("a marker can't be read; it counts as none")
        return None
