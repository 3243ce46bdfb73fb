"""Answers on their way from an agent to the front that waits: one Redis message for each front and batch.

They may get lost with Redis; the front looks the operation up before it says 202. Workers are deployed before fronts,
so what is read here may be of a newer version: it is always shown as something, and never an error.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

import msgspec

from domain.refusals import Code, Detail, Problem, Refusal
from stores.aggregates import Operation
from stores.redis import Redis, RedisError

log = logging.getLogger("yeoul.streams.answers")

HEARTBEAT_S = 1.0
"""A channel that is silent for this long is asked whether it is there; silent for as long again, it is not."""
AGAIN_S = 0.2


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
    fingerprint: str = ""
    """Of the command that it answers: two commands of one operation may be answered at once, and differently. Empty
    from workers that do not name it yet."""


class _Detail(msgspec.Struct):
    field: str
    problem: str
    allowed: str = ""


class _Told(msgspec.Struct):
    """A refusal as it travels: with its status, for a front that does not know its code yet."""

    code: str
    status: int = 0
    details: list[_Detail] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Sent]).decode
_encode_json = msgspec.json.Encoder().encode
_decode_told = msgspec.json.Decoder(_Told).decode
_CODES = {code.value: code for code in Code}
_PROBLEMS = {problem.value: problem for problem in Problem}


def write(answers: list[Sent]) -> bytes:
    """One message with all answers of a batch for one front."""
    return _encode(answers)


def write_refusal(refusal: Refusal) -> bytes:
    """A refusal as the table of operations and the channels have it."""
    details = [_Detail(detail.field, detail.problem.value, detail.allowed) for detail in refusal.details]
    return _encode_json(_Told(refusal.code.value, refusal.status, details))


def _read_refusal(told: bytes, otherwise: Code) -> Refusal:
    """What `write_refusal` of any version wrote; `otherwise` stands for a code that is not known here."""
    try:
        read = _decode_told(told)
    except (msgspec.MsgspecError, ValueError):
        return Refusal(otherwise)
    details = tuple(
        Detail(detail.field, _PROBLEMS.get(detail.problem, Problem.INVALID), detail.allowed) for detail in read.details
    )
    code = _CODES.get(read.code)
    if code is not None:
        return Refusal(code, details)
    return Refusal(otherwise, details, foreign=read.status if 400 <= read.status <= 599 else 0)


def answer_from(sent: Sent | Operation, *, replayed: bool | None = None) -> Answer:
    """What the front gives its caller, from a message or from the table of operations."""
    again = sent.replayed if isinstance(sent, Sent) else bool(replayed)
    if sent.outcome == "succeeded":
        return Answer(sent.operation, "succeeded", again, sent.answer, sent.version)
    outcome: Literal["refused", "failed"] = "refused" if sent.outcome == "refused" else "failed"
    refusal = _read_refusal(sent.answer, Code.REFUSED if outcome == "refused" else Code.OPERATION_FAILED)
    return Answer(sent.operation, outcome, again, b"", sent.version, refusal)


class Inbox:
    """A front's own channel; calls `deliver` with each answer and its fingerprint.

    `listening` is False while answers may get lost.
    """

    def __init__(self, redis: Redis, channel: str, deliver: Callable[[Answer, str], None]) -> None:
        self._redis = redis
        self.channel = channel
        self._deliver = deliver
        self._task: asyncio.Task[None] | None = None
        self._told_unreadable = False
        self.listening = False

    async def start(self) -> None:
        """Begin to listen; returns when the channel is subscribed, or after half a second without Redis."""
        subscribed = asyncio.Event()
        self._task = asyncio.create_task(self._listen(subscribed))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await subscribed.wait()

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self, subscribed: asyncio.Event) -> None:
        """Listens for ever: whatever ends the channel is told once, and followed by another try."""
        while True:
            pubsub: Any = self._redis.client.pubsub()
            try:
                await self._hear(pubsub, subscribed)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                log.warning("the channel of answers was cancelled by nobody; it is opened again")
            except (OSError, TimeoutError, RedisError) as error:
                if self.listening:
                    log.warning("answers are looked up until Redis is back: %s", str(error) or type(error).__name__)
            except Exception:
                log.exception("the channel of answers failed; it is opened again")
            finally:
                self.listening = False
                self._redis.interrupted()
                with contextlib.suppress(Exception):
                    await pubsub.aclose()
            await asyncio.sleep(AGAIN_S)

    async def _hear(self, pubsub: Any, subscribed: asyncio.Event) -> None:
        await pubsub.subscribe(self.channel)
        asked = False
        while True:
            message = await pubsub.get_message(timeout=HEARTBEAT_S)
            if message is None:
                if asked:
                    raise TimeoutError(f"Redis said nothing for {2 * HEARTBEAT_S:g} s")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                if self.listening:  # redis-py has opened the channel anew by itself
                    self._redis.interrupted()
                self.listening = True
                subscribed.set()
            elif message["type"] == "message":
                self._read(message["data"])

    def _read(self, message: bytes) -> None:
        try:
            for sent in _decode(message):
                self._deliver(answer_from(sent), sent.fingerprint)
        except Exception:
            # Those who wait for it look it up.
            if not self._told_unreadable:
                log.exception("a message with answers can't be read, of another version? Further ones are not told")
            self._told_unreadable = True
