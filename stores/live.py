"""Totals on their way to those who watch: a Redis channel for each metric. What is lost there stands in PostgreSQL."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from stores.analytics import Row
from stores.redis import Redis, RedisAway

MOST_ROWS = 5_000
"""With more rows than this in one message, the watchers are told to read PostgreSQL instead."""


class Changes(msgspec.Struct, array_like=True):
    """New totals of rows, absolute, so that a repeat changes nothing; `all` instead of them: read them anew."""

    rows: list[Row] = []
    all: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Changes).decode


class Live:
    """The channels of an installation."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def channel(self, metric: str) -> str:
        """The channel of a metric."""
        return f"{self._redis.prefix}:metrics:{metric}"

    async def tell(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Publish new totals by metric, once; who misses them reads PostgreSQL. Raises RedisAway."""
        messages = []
        for metric, of_metric in rows.items():
            changes = Changes(list(of_metric)) if len(of_metric) <= MOST_ROWS else Changes(all=True)
            messages.append(("PUBLISH", self.channel(metric), _encode(changes)))
        if messages:
            await self._redis.exchange(messages)

    @asynccontextmanager
    async def listen(self, metric: str) -> AsyncIterator[AsyncIterator[Changes | None]]:
        """Changes of a metric as they come; None when a second passed without one. Raises RedisAway, also later."""
        pubsub: Any = self._redis.client.pubsub()
        try:
            with self._redis.use():
                await pubsub.subscribe(self.channel(metric))
            yield self._heard(pubsub)
        finally:
            await pubsub.aclose()

    async def _heard(self, pubsub: Any) -> AsyncIterator[Changes | None]:
        while True:
            with self._redis.use():
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
            if message is None:
                yield None
                continue
            try:
                yield _decode(message["data"])
            except msgspec.MsgspecError:
                yield Changes(all=True)  # of another version: the table says it, too


__all__ = ["Changes", "Live", "RedisAway"]
