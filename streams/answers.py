"""Answers on their way from an agent to the front that waits: one Redis message for each front and batch.

They may get lost with Redis; the front looks the operation up before it says 202.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

import msgspec
from redis.exceptions import RedisError

from domain.refusals import Refusal
from stores.aggregates import Operation
from stores.redis import Redis

log = logging.getLogger("yeoul.streams.answers")


class Answer(msgspec.Struct, frozen=True):
    """What became of a command. `document` is the finished object's JSON, empty for one that is gone."""

    operation: UUID
    outcome: Literal["succeeded", "refused", "failed"]
    replayed: bool
    document: bytes
    version: int
    refusal: Refusal | None = None


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it travels."""

    operation: UUID
    outcome: Literal["succeeded", "refused", "failed"]
    replayed: bool
    version: int
    answer: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Sent]).decode
_refusal = msgspec.json.Decoder(Refusal).decode


def write(answers: list[Sent]) -> bytes:
    """One message with all answers of a batch for one front."""
    return _encode(answers)


def answer_from(sent: Sent | Operation, *, replayed: bool | None = None) -> Answer:
    """What the front gives its caller, from a message or from the table of operations."""
    again = sent.replayed if isinstance(sent, Sent) else bool(replayed)
    if sent.outcome == "succeeded":
        return Answer(sent.operation, "succeeded", again, sent.answer, sent.version)
    outcome: Literal["refused", "failed"] = "refused" if sent.outcome == "refused" else "failed"
    return Answer(sent.operation, outcome, again, b"", sent.version, _refusal(sent.answer))


class Inbox:
    """A front's own channel; calls `deliver` for each answer. `listening` is False while answers may get lost."""

    def __init__(self, redis: Redis, channel: str, deliver: Callable[[Answer], None]) -> None:
        self._redis = redis
        self.channel = channel
        self._deliver = deliver
        self._task: asyncio.Task[None] | None = None
        self.listening = False

    async def start(self) -> None:
        """Begin to listen; returns when the channel is subscribed, or after half a second without Redis."""
        subscribed = asyncio.Event()
        self._task = asyncio.create_task(self._listen(subscribed))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(subscribed.wait(), 0.5)

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self, subscribed: asyncio.Event) -> None:
        while True:
            pubsub: Any = self._redis.client.pubsub()
            try:
                await pubsub.subscribe(self.channel)
                while True:
                    message = await pubsub.get_message(timeout=1.0)
                    if message is None:
                        await pubsub.ping()
                    elif message["type"] == "subscribe":
                        self.listening = True
                        subscribed.set()
                    elif message["type"] == "message":
                        for sent in _decode(message["data"]):
                            self._deliver(answer_from(sent))
            except (OSError, TimeoutError, RedisError) as error:
                if self.listening:
                    log.warning("answers are looked up until Redis is back: %s", str(error) or type(error).__name__)
                self.listening = False
                await asyncio.sleep(0.2)
            finally:
                with contextlib.suppress(Exception):
                    await pubsub.aclose()
