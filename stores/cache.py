"""The shared cache in Redis: finished objects as bytes, with versions, so that a late writer can't bring old ones back.

An entry is the epoch in which it was written, the version in 12 digits and the object's JSON; nothing after the version
means that the object is gone. Entries live LIFE_S at most, and count only while their epoch is the current one, which
stands in Redis under a key of its own. So a new epoch drops everything cached at once.

A write that missed Redis leaves an older copy there. So a process that saw Redis away, for reads or writes, begins a
new epoch before it reads or writes there again; and one that missed a write does so as soon as Redis is back. What was
read from PostgreSQL before that can't come in later: it is stored under the epoch that was the current one when the
reader began.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from stores.redis import Redis, RedisAway
from telemetry import metrics

log = logging.getLogger("yeoul.stores.cache")

LIFE_S = 60
ABSENT_LIFE_S = 5
DIGITS = 12
EPOCH_BYTES = 8
PROBE_S = 0.25
"""How often a process that missed a write looks whether Redis is back, seconds."""

_NO_EPOCH = bytes(EPOCH_BYTES)

# KEYS: the epoch, then entries. ARGV: life in seconds, the writer's epoch, then a value for each entry. Sets those that
# are newer than what is there, of whatever epoch that is: a version never comes back. One that is as new is set if it
# counts and what is there does not. Returns the current epoch.
_SET_NEWER = """
local epoch = redis.call('GET', KEYS[1])
for i = 2, #KEYS do
  local value = ARGV[i + 1]
  local there = redis.call('GETRANGE', KEYS[i], 0, 19)
  local old, new = string.sub(there, 9), string.sub(value, 1, 12)
  if there == '' or old < new or (old == new and ARGV[2] == epoch and string.sub(there, 1, 8) ~= epoch) then
    redis.call('SET', KEYS[i], ARGV[2] .. value, 'EX', ARGV[1])
  end
end
return epoch
"""


def entry(version: int, document: bytes) -> bytes:
    """How an object stands in the cache, behind its epoch."""
    return b"%012d" % version + document


def _count(noun: str, **outcomes: int) -> None:
    for outcome, number in outcomes.items():
        if number:
            metrics.CACHE_READS.labels(noun, outcome).inc(number)


class Cache:
    """Entries of all nouns. Never raises: a cache that is away is a miss."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._epoch_key = f"{redis.prefix}:cache:epoch"
        self._epoch: bytes | None = None
        self._missed = 0
        """Counts up with each write that Redis did not get."""
        self._settled = self._troubles()
        """What this process had met when it last knew that what is there is right."""
        self._renewing = asyncio.Lock()
        self._recovery: asyncio.Task[None] | None = None

    @property
    def redis(self) -> Redis:
        """Where it is."""
        return self._redis

    def key(self, noun: str, id: UUID) -> str:
        """The entry's name in Redis."""
        return f"{self._redis.prefix}:cache:{noun}:{id}"

    async def close(self) -> None:
        """Stop looking for Redis; what this process has missed stays in the cache until its time is over."""
        if self._recovery is not None:
            self._recovery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovery

    async def get(self, noun: str, ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """The entries there are."""
        try:
            if not self._doubtful():
                keys = [self.key(noun, id) for id in ids]
                ((epoch, *values),) = await self._redis.exchange([("MGET", self._epoch_key, *keys)])
                if epoch is not None and not self._doubtful():
                    return self._found(noun, ids, epoch, values)
            # A connection was lost, so that what is there may be the answer of another server; or Redis is empty.
            with self._redis.use() as client:
                await self._renew(client)
        except RedisAway:
            pass
        _count(noun, away=len(ids))
        return {}

    def _found(self, noun: str, ids: Sequence[UUID], epoch: bytes, values: Sequence[bytes | None]) -> dict[UUID, bytes]:
        self._epoch = epoch
        found = {
            id: value[EPOCH_BYTES:]
            for id, value in zip(ids, values, strict=True)
            if value is not None and value.startswith(epoch)
        }
        absent = sum(len(value) == DIGITS for value in found.values())
        _count(noun, hit=len(found) - absent, absent=absent, miss=len(ids) - len(found))
        return found

    def moment(self) -> bytes | None:
        """What `fill` needs to know of the moment before PostgreSQL is read; None when nothing can be kept now."""
        return None if self._doubtful() else self._epoch

    async def fill(self, noun: str, entries: Mapping[UUID, bytes], moment: bytes | None, *, life: int = LIFE_S) -> None:
        """Keep what was read from PostgreSQL after this `moment`."""
        if moment is None or not entries or self._doubtful():
            return
        with contextlib.suppress(RedisAway), self._redis.use() as client:
            await self._set(client, noun, entries, moment, life)

    async def put(self, noun: str, entries: Mapping[UUID, bytes], *, life: int = LIFE_S) -> bool:
        """Set what was written and is newer than what is there; False if Redis is away."""
        return await self.put_and_publish(noun, entries, {}, life=life)

    async def put_and_publish(
        self, noun: str, entries: Mapping[UUID, bytes], messages: Mapping[str, bytes], *, life: int = LIFE_S
    ) -> bool:
        """As `put`, then publish a message on each channel, in one round trip and in this order."""
        commands: list[tuple[Any, ...]] = []
        try:
            if entries:
                with self._redis.use() as client:
                    epoch = await self._current(client)
                commands.append(self._setting(noun, entries, epoch, life))
            commands += [("PUBLISH", channel, message) for channel, message in messages.items()]
            if not commands:
                return True
            results = await self._redis.exchange(commands)
        except RedisAway:
            if entries:
                self._missed_a_write()
            return False
        if entries:
            self._epoch = results[0]
        return True

    async def outdate(self, noun: str, versions: Mapping[UUID, int]) -> None:
        """From now on nothing older than these versions is found: what is, is to be read from PostgreSQL."""
        try:
            with self._redis.use() as client:
                floors = {id: entry(version, b"") for id, version in versions.items()}
                await self._set(client, noun, floors, _NO_EPOCH, LIFE_S)
        except RedisAway:
            self._missed_a_write()

    def _setting(self, noun: str, entries: Mapping[UUID, bytes], epoch: bytes, life: int) -> tuple[Any, ...]:
        # By its text, which the server keeps compiled: by its hash, redis-py asks first whether it is known.
        keys = [self._epoch_key, *(self.key(noun, id) for id in entries)]
        return ("EVAL", _SET_NEWER, len(keys), *keys, life, epoch, *entries.values())

    def _set(self, client: Any, noun: str, entries: Mapping[UUID, bytes], epoch: bytes, life: int) -> Any:
        return client.execute_command(*self._setting(noun, entries, epoch, life))

    # -- epochs ------------------------------------------------------------------------------------------------------

    def _doubtful(self) -> bool:
        """True if Redis was away since this process last knew that what is there is right."""
        return self._settled != self._troubles()

    def _troubles(self) -> tuple[int, int]:
        return self._redis.outages, self._missed

    async def _current(self, client: Any) -> bytes:
        if self._doubtful():
            return await self._renew(client)
        if self._epoch is None:
            self._epoch = await client.get(self._epoch_key)
        return self._epoch or await self._renew(client)

    async def _renew(self, client: Any) -> bytes:
        """The epoch that begins now, or began while this waited for its turn."""
        async with self._renewing:
            troubles = self._troubles()  # of what is met from now on the new epoch may know nothing
            epoch = os.urandom(EPOCH_BYTES)
            if self._doubtful():
                await client.set(self._epoch_key, epoch)
                metrics.CACHE_DROPS.inc()
                log.info("everything cached is dropped: Redis was away, and writes may be missing there")
            else:
                epoch = await client.set(self._epoch_key, epoch, nx=True, get=True) or epoch
            self._epoch, self._settled = epoch, troubles
            return epoch

    def _missed_a_write(self) -> None:
        self._missed += 1
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        """Drop what is cached as soon as Redis is back, on behalf of those who do not know that it was away."""
        while self._doubtful():
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(RedisAway), self._redis.use(probing=True) as client:
                if self._doubtful():
                    await self._renew(client)
