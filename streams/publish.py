"""The front's way to change anything: a signed command on a topic, and the wait for its answer.

submit → marker (keyed operations) → topic → agent → answer by Redis, or found in the table of operations
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec

import topics
from config import Settings
from domain.access import Actor, Role
from domain.refusals import Code, Refusal
from stores import Stores, StoresAway
from stores.aggregates import Operation
from stores.loader import Loader
from stores.redis import RedisAway
from streams import markers
from streams.answers import Answer, Inbox, answer_from
from streams.dispatch import Dispatch, Record
from streams.identity import uuid7
from streams.markers import Attempt, Marker, Markers
from streams.orders import Order, command_record
from streams.producer import Broker
from streams.waiting import LOOK_S, SENT_S, Waiter, Waiting
from telemetry import tracing
from telemetry.tracing import Span

log = logging.getLogger("yeoul.streams.publish")

RUNNING_S = 10.0
"""An equal keyed operation younger than this is still running: 409. An older one is sent again."""
STOP_S = 1.0
"""How long a stop waits for what is left to be said of commands under way, seconds, twice at most."""

__all__ = ["Answer", "BrokerAway", "Commands", "Conflict", "Order", "Pending"]


class BrokerAway(Exception):
    """Kafka can't be reached. The command was not sent; try again in a moment."""


class Conflict(Exception):
    """An equal operation is running; its answer will be there in a moment."""


class Pending(msgspec.Struct, frozen=True):
    """Not answered in time: it will be done; ask for the operation."""

    operation: UUID


def _answer_to(order: Order, row: Operation, *, replayed: bool) -> Answer:
    """What the table knows of an operation, to whoever asks for it now."""
    if row.fingerprint != order.fingerprint or row.actor != order.actor.id:
        return _reused(order)
    return answer_from(row, replayed=replayed)


def _reused(order: Order) -> Answer:
    return Answer(order.operation, "refused", False, b"", 0, Refusal(Code.KEY_REUSED))


def _may_ask(actor: Actor, owner: UUID | None) -> bool:
    return actor.role is Role.ADMIN or actor.id == owner


class Commands:
    """One for each front process."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._key = settings.command_key
        self._stores = stores
        self._topics = {noun: topic.full_name(settings.topic_prefix) for noun, topic in topics.COMMANDS_OF.items()}
        self.broker = Broker(settings, "front", list(self._topics.values()), self._broker_went)
        self._dispatch = Dispatch(self.broker)
        self._markers = Markers(stores.redis)
        self._waiting = Waiting(lambda: self._inbox.listening)
        self._inbox = Inbox(stores.redis, f"{settings.topic_prefix}:answers:{uuid7()}", self._waiting.deliver)
        self._operations: Loader[UUID, Operation] = Loader(stores.operations.find)
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings, stores: Stores) -> AsyncIterator["Commands"]:
        """Started; stopped at the end. Kafka and Redis need not be there yet."""
        commands = cls(settings, stores)
        await commands._inbox.start()
        await commands.broker.start()
        try:
            yield commands
        finally:
            await commands.broker.stop()
            await commands._settle()
            await commands._inbox.stop()
            commands._waiting.close()
            for task in commands._tasks:
                task.cancel()

    def ready(self) -> str:
        """`ok`, or why the broker can't be used."""
        return self.broker.away or "ok"

    async def submit(self, order: Order, *, wait: float) -> Answer | Pending:
        """Send a command and wait up to `wait` seconds for its answer. Raises BrokerAway, Conflict."""
        if self.broker.away is not None:
            raise BrokerAway(self.broker.away)
        attempt = Attempt(order.operation, order.actor.id, order.fingerprint)
        if order.keyed:
            known = await self._begin(order, attempt)
            if known is not None:
                return known
        span = tracing.sending(order.traceparent, order.tracestate, self._topics[order.noun], order.operation)
        if span is not None:
            order = msgspec.structs.replace(order, traceparent=span.context.traceparent)
        waiter = self._waiting.enter(order.operation, order.fingerprint, wait, lambda: self._look(order, attempt))
        begun = time.monotonic()
        try:
            record = self._send(order, waiter, attempt, span)
            answer = await waiter.future
            if answer is None and not await record.leaves(begun + SENT_S - time.monotonic()):
                raise BrokerAway("Kafka takes nothing at the moment")
        except Exception:
            if order.keyed:
                self._background(self._markers.withdraw(attempt))  # the next try must not wait for it
            raise
        finally:
            self._waiting.leave(waiter)
        if answer is not None:
            if order.keyed:
                self._background(self._markers.finish(attempt))
            return answer
        if not order.keyed:
            # Asked for only now: without a key nobody can know the operation's id before this answer names it.
            await self._markers.run(attempt)
        return Pending(order.operation)

    async def find(self, operation: UUID, actor: Actor) -> Answer | Pending | None:
        """What became of an operation; None if there is none, or it is another's. Raises StoresAway."""
        row = await self._operations.get(operation)
        if row is None:
            marker = await self._marker(operation)
            if marker is None or not _may_ask(actor, marker.actor):
                return None
            if marker.state in (markers.DONE, markers.LOST):
                # Done between the two looks; lost for its front, and taken all the same; or forgotten since.
                row = await self._operations.get(operation)
            if row is None and marker.state == markers.LOST:
                return Answer(operation, "failed", False, b"", 0, Refusal(Code.OPERATION_FAILED))
            if row is None:
                return None if marker.state == markers.DONE else Pending(operation)
        if not _may_ask(actor, row.actor):
            return None
        await self._outdate(row)
        return answer_from(row, replayed=False)

    async def _settle(self) -> None:
        """Let it be known what became of every command, while the stores are still open."""
        await self._dispatch.ended(STOP_S)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)

    def _broker_went(self, reason: str) -> None:
        self._dispatch.give_back(BrokerAway(reason))

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(self, order: Order, waiter: Waiter, attempt: Attempt, span: Span | None) -> Record:
        key, value, headers = command_record(order, self._key, self._inbox.channel)
        return self._dispatch.send(
            self._topics[order.noun],
            key,
            value,
            headers,
            lambda error, arrived: self._sent(waiter, attempt, span, error, arrived),
        )

    def _sent(
        self, waiter: Waiter, attempt: Attempt, span: Span | None, error: Exception | None, arrived: bool
    ) -> None:
        if span is not None:
            span.end(error=None if error is None else type(error).__name__)
        if error is None:
            if waiter.until_sent:
                waiter.settle(None)
        elif waiter.answered:
            log.warning("a command arrived that Kafka did not acknowledge: %s", error)
        elif arrived:
            self._background(self._lose(waiter, attempt, error))
        elif waiter.future.done():
            self._background(self._markers.withdraw(attempt))  # its caller is told so, or has gone
        else:
            waiter.fail(BrokerAway(str(error) or type(error).__name__))

    async def _lose(self, waiter: Waiter, attempt: Attempt, error: Exception) -> None:
        """It was refused, or has ended nowhere, or arrived all the same: its caller need not wait to be told so."""
        fields = {"operation": str(attempt.operation)}
        log.error("a command may be lost: %s", str(error) or type(error).__name__, extra={"fields": fields})
        answer = None
        try:
            await self._markers.lose(attempt)
            if not waiter.until_sent:
                answer = await waiter.look()
        except (StoresAway, TimeoutError):
            pass  # then its caller is told where to ask
        finally:
            waiter.settle(answer)

    # -- looking it up -----------------------------------------------------------------------------------------------

    async def _look(self, order: Order, attempt: Attempt) -> Answer | None:
        async with asyncio.timeout(LOOK_S):
            row = await self._operations.get(order.operation)
        if row is None:
            return None
        await self._outdate(row)
        answer = _answer_to(order, row, replayed=attempt.again)
        # The worker says it if this one fails too; what an earlier one came to is no answer to it.
        return None if answer.outcome == "failed" and attempt.again else answer

    async def _outdate(self, row: Operation) -> None:
        """The agent's own renewal may have been lost with the answer: the caller must read what it wrote, or newer."""
        if row.noun == "resources" and row.outcome == "succeeded":
            await self._stores.cache.outdate("resources", {row.aggregate_id: row.version})

    def _background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- markers -----------------------------------------------------------------------------------------------------

    async def _begin(self, order: Order, attempt: Attempt) -> Answer | None:
        """Set the marker of a keyed operation, or find its answer. Raises Conflict while an equal one is running."""
        try:
            there = await self._markers.begin(attempt)
        except RedisAway:
            return await self._done_before(order, attempt)
        other = there is not None and there.fingerprint not in ("", order.fingerprint)
        young = there is not None and there.state == markers.RUNNING and time.time() - there.since < RUNNING_S
        if other or young:
            try:
                row = await self._operations.get(order.operation)
            except StoresAway:
                row = None
            if row is None and other:
                # Not left to the worker: a 202 would lead to an operation whose result is the other body's.
                return _reused(order)
            if row is None:
                raise Conflict(str(order.operation))
        if attempt.before:
            await self._markers.run(attempt)
        return None

    async def _done_before(self, order: Order, attempt: Attempt) -> Answer | None:
        """Without Redis the agent can't say that this repeats an operation, or misuses its key: the table can."""
        try:
            row = await self._operations.get(order.operation)
        except StoresAway:
            return None
        if row is None:
            return None
        attempt.again = True
        answer = _answer_to(order, row, replayed=True)
        return None if answer.outcome == "failed" else answer  # the same command may succeed after all

    async def _marker(self, operation: UUID) -> Marker | None:
        try:
            return await self._markers.get(operation)
        except RedisAway as error:
            raise StoresAway(f"Redis is away: {error}") from error
