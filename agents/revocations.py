"""Events of accounts → commands that end their sessions: whoever logged in before is not who the account knows now.

Which sessions are too old is told by the version of the account that their login saw, not by clocks. A command is sent
before the position moves, and its operation derives from the event: a repeat is the same command.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

import topics
from domain.access import SYSTEM
from domain.sessions import Reason, RevokeSessions
from stores import StoresAway
from stores.dead_letters import Parked
from stores.progress import Move
from streams import identity
from streams.envelope import Name, Unreadable, read_foreign_as
from streams.groups import Connections, ReaderGroup
from streams.orders import Order, command_record
from streams.producer import REQUEST_TIMEOUT_S, partition_of
from streams.progress import Owned
from streams.readers import Reader
from streams.work import Part, Work

log = logging.getLogger("yeoul.agents.revocations")

REASONS = {
    "account.password_changed": Reason.PASSWORD_CHANGED,
    "account.disabled": Reason.DISABLED,
    "account.role_changed": Reason.ROLE_CHANGED,
    "account.erased": Reason.ERASED,
}
"""Events of accounts that end sessions, and why those say they ended."""


class _Seen(msgspec.Struct, frozen=True):
    id: Name
    source: Name
    type: Name
    subject: UUID
    sequence: str
    aggregateversion: int
    data: msgspec.Raw
    traceparent: str | None = None
    tracestate: str | None = None
    requestid: str = ""


class _Kept(msgspec.Struct, frozen=True):
    kept_session: UUID | None = None


class _Change(msgspec.Struct, frozen=True):
    """What of an event counts; the names are those that the pipeline asks for."""

    id: str
    source: str
    sequence: str
    order: Order


_seen = msgspec.json.Decoder(_Seen)
_kept = msgspec.json.Decoder(_Kept)


class Revocations(Reader):
    """Sends what follows for the sessions; it writes nothing itself but its position."""

    name = "sessions.revocations"

    def __init__(self, connections: Connections, group: str) -> None:
        super().__init__(connections.database, group)
        self._broker = connections.broker
        self._key = connections.settings.command_key
        self._topic = topics.COMMANDS_SESSIONS.full_name(connections.settings.topic_prefix)

    def decode(self, record: ConsumerRecord) -> _Change | None:
        """See streams.work.Handler."""
        event = read_foreign_as(record, _seen)
        reason = REASONS.get(event.type)
        if reason is None:
            return None
        try:
            kept = _kept.decode(event.data).kept_session
        except msgspec.MsgspecError as error:
            raise Unreadable("wrong_shape", str(error)) from None
        command = RevokeSessions(reason, kept, event.aggregateversion)
        operation = identity.operation_id(None, "event", event.source, event.id)
        order = Order(
            noun="sessions",
            type="revoke_sessions",
            aggregate_id=event.subject,
            operation=operation,
            actor=SYSTEM,
            data=msgspec.json.encode(command),
            fingerprint=operation.hex,
            traceparent=event.traceparent,
            tracestate=event.tracestate,
            request_id=event.requestid,
        )
        return _Change(event.id, event.source, event.sequence, order)

    async def commit(self, work: Work, moves: list[Move]) -> Any:
        """See streams.work.Handler."""
        await self._send([message.order for part in work.parts for message in part.messages])
        return await super().commit(work, moves)

    async def replay(self, letter: Parked, owned: Owned, message: _Change) -> None:
        """See Reader.replay."""
        await self._send([message.order])
        await super().replay(letter, owned, message)

    async def handle(self, connection: Any, parts: Sequence[Part]) -> None:
        """See Reader.handle: everything was sent."""

    async def _send(self, orders: Sequence[Order]) -> None:
        """Until Kafka has them all. Raises StoresAway: a broker that is away is waited for like any store."""
        if not orders:
            return
        producer = None
        try:
            producer = await self._broker.current()
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                for order in orders:
                    key, value, headers = command_record(order, self._key)
                    partition = await partition_of(producer, self._topic, key)
                    await producer.send_and_wait(self._topic, value, key, partition, headers=headers)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._broker.renew(producer)
            raise StoresAway(f"Kafka is away: {str(error) or type(error).__name__}") from error


# Small batches: each command is acknowledged before the next one, and a batch has to be done within a request's time.
GROUP = ReaderGroup("revocations", (topics.EVENTS_ACCOUNTS,), Revocations, max_records=500, gather_s=0.0)
