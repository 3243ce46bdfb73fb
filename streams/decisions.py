"""A batch of commands of one noun: load, decide and evolve in memory, in order, commit; then cache, answer, publish.

One command changes one aggregate. Commands of one aggregate stand in one partition, in order, so the fold of a batch is
the same as one after the other.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

from domain.access import Actor, Role
from domain.aggregates import Context, Occurrence, fold
from domain.refusals import Refusal
from security.signatures import verify
from stores.aggregates import Commands, Entry, NotNew, Operation, Outdated, Table
from stores.cache import Cache
from stores.dead_letters import Letter, park
from stores.postgres import Database
from stores.progress import Move
from streams.answers import write as write_answers
from streams.envelope import SIGNATURE, Command, Event, Unreadable, read_command, sequence, source_of, write
from streams.identity import event_id
from streams.outcomes import Outcome, reopens
from streams.progress import Progress
from streams.publisher import Publication, Publisher
from streams.traced import Traced
from streams.work import Work

log = logging.getLogger("yeoul.streams.decisions")

_encode = msgspec.json.Encoder().encode
_ROLES = {role.value: role for role in Role}


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """What the write path needs to know of a noun. `cached`: how a state stands in the shared cache, if it does."""

    name: str
    table: Table
    commands: Mapping[str, type]
    creating: frozenset[str] = frozenset()
    """Commands that are taken for the first of their aggregate, unless it turns out that they are not."""
    event_names: Mapping[type, str]
    decide: Callable[[Any, Any, Context], Any]
    evolve: Callable[[Any, Any, Occurrence], Any]
    document: Callable[[Any], bytes]
    cached: Callable[[Any], bytes] | None = None
    guard: str = "SELECT 0"
    """A query of a number that tells whether what decisions are made by has changed (see `Decisions.reload`)."""


class Asked(msgspec.Struct, frozen=True):
    """A command as decoded: its envelope, and the domain's command in it."""

    envelope: Command
    command: Any


def _as_read(letter: Letter) -> Letter:
    """Also of one that nobody signed with this key: another one may be right when it is sent again."""
    try:
        read = read_command(letter.value)
    except Unreadable:
        return letter
    return msgspec.structs.replace(letter, operation=read.operation, actor=read.actor, subject=read.subject)


class Decisions:
    """The handler of a noun's commands. `before_decide` may refuse some commands first (unique addresses)."""

    def __init__(
        self,
        noun: Noun,
        group: str,
        database: Database,
        cache: Cache,
        progress: Progress,
        publisher: Publisher,
        key: bytes,
    ) -> None:
        self.name = f"commands.{noun.name}"
        self.noun = noun
        self.group = group
        self._database = database
        self._cache = cache
        self._progress = progress
        self._publisher = publisher
        self._key = key
        self._store = Commands(noun.name, noun.table, noun.guard)
        self._decoders: dict[str, Callable[[Any], Any]] = {
            name: msgspec.json.Decoder(kind).decode for name, kind in noun.commands.items()
        }
        self._noun_bytes = noun.name.encode()
        self._source = source_of(noun.name)
        publisher.renew_cache = self._renew_cache

    def decode(self, record: ConsumerRecord) -> Asked:
        """See streams.work.Handler."""
        if not self._signed(record):
            raise Unreadable("unsigned", "the command has no valid signature of a front")
        envelope = read_command(record.value)
        decoder = self._decoders.get(envelope.type)
        if decoder is None:
            raise Unreadable("unknown_command", f"no command {envelope.type!r} for {self.noun.name}")
        if envelope.actorrole not in _ROLES:
            raise Unreadable("unknown_role", f"no role {envelope.actorrole!r}")
        if record.key != str(envelope.subject).encode():
            raise Unreadable("wrong_key", "the record's key is not the command's aggregate")
        try:
            return Asked(envelope, decoder(envelope.data))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Unreadable("wrong_shape", str(error)) from None

    def _signed(self, record: ConsumerRecord | Letter) -> bool:
        for name, value in record.headers:
            if name == SIGNATURE and value is not None:
                parts = (self._noun_bytes, record.key or b"", record.value or b"")
                return verify(self._key, value.decode("ascii", "replace"), *parts)
        return False

    def _failing(self, letters: list[Letter]) -> list[Command]:
        """The commands of dead letters that a front did send: whoever waits for them is told that they failed."""
        found = []
        for letter in letters:
            if self._signed(letter):
                with contextlib.suppress(Unreadable):
                    found.append(read_command(letter.value))
        return found

    def decode_all(self, records: Sequence[ConsumerRecord]) -> None:
        """See streams.work.Handler: each signature is looked at alone."""
        return

    async def commit(self, work: Work, moves: list[Move]) -> Outcome:
        """See streams.work.Handler."""
        with Traced(work, self.group) as traced:
            while True:
                try:
                    return await self._commit(work, moves, traced)
                except Outdated:
                    async with self._database.connection() as connection:
                        await self.reload(connection)

    async def _commit(self, work: Work, moves: list[Move], traced: Traced) -> Outcome:
        asked = [message.envelope for part in work.parts for message in part.messages]
        failing = self._failing(work.letters)
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._database.connection())
            if work.letters or self.needs_transaction(work):
                # Otherwise the commit is one statement, which is a transaction by itself.
                await stack.enter_async_context(connection.transaction())
            if not work.letters and self._all_new(asked):
                # One statement for the batch: it looks by itself whether all is new, and writes nothing if not.
                with contextlib.suppress(NotNew):
                    new = self._decide(work, {}, {}, {}, traced)
                    return await self._write(connection, moves, new, traced, unread=True)
            operations = list({envelope.operation for envelope in (*asked, *failing)})
            aggregates = list({envelope.subject for envelope in asked})
            done, states = await self._store.load(connection, operations, aggregates) if operations else ({}, {})
            refused = await self.before_decide(connection, work, done)
            outcome = self._decide(work, done, states, refused, traced)
            for envelope in failing:
                outcome.fail(envelope, done)
            await self._write(connection, moves, outcome, traced, unread=False)
            await self.after_write(connection, outcome)
            await park(connection, [_as_read(letter) for letter in work.letters])
        return outcome

    def _all_new(self, asked: list[Command]) -> bool:
        return bool(asked) and all(envelope.type in self.noun.creating for envelope in asked)

    async def _write(
        self, connection: Any, moves: list[Move], outcome: Outcome, traced: Traced, *, unread: bool
    ) -> Outcome:
        written = [(state, outcome.loaded[id]) for id, state in outcome.states.items()]
        with traced.writing():
            await self._store.commit(
                connection, self.group, moves, written, outcome.journal, outcome.operations,
                unread=unread, guarded=self.guarded,
            )  # fmt: skip
        return outcome

    @property
    def guarded(self) -> int:
        """The number of the noun's guard by which decisions are made."""
        return 0

    async def reload(self, connection: Any) -> None:
        """Look anew at what decisions are made by."""

    def decide(self, state: Any, command: Any, context: Context) -> Any:
        """Events, or a Refusal."""
        return self.noun.decide(state, command, context)

    def needs_transaction(self, work: Work) -> bool:
        """True if `before_decide` or `after_write` writes."""
        return False

    async def before_decide(
        self, connection: Any, work: Work, done: Mapping[UUID, Operation]
    ) -> Mapping[UUID, Refusal]:
        """Refusals that no aggregate alone can know, by operation."""
        return {}

    async def after_write(self, connection: Any, outcome: Outcome) -> None:
        """What else the batch changes; undo what `before_decide` wrote for nothing."""

    # -- decide ------------------------------------------------------------------------------------------------------

    def _decide(
        self, work: Work, done: dict[UUID, Operation], states: dict[UUID, Any], refused: Mapping[UUID, Refusal],
        traced: Traced,
    ) -> Outcome:  # fmt: skip
        outcome = Outcome(self.noun.name)
        now = datetime.now(UTC)
        for part in work.parts:
            owned = part.owned
            records: list[tuple[bytes, bytes]] = []
            for record, message in zip(part.records, part.messages, strict=True):
                envelope: Command = message.envelope
                before = done.get(envelope.operation)
                if before is not None and not reopens(before, envelope):
                    outcome.repeat(envelope, before)
                    continue
                refusal = refused.get(envelope.operation)
                state = states.get(envelope.subject)
                context = Context(Actor(envelope.actor, _ROLES[envelope.actorrole]), envelope.subject, now)
                if refusal is None:
                    events = self.decide(state, message.command, context)
                    if isinstance(events, Refusal):
                        refusal, events = events, ()
                else:
                    events = ()
                version = 0 if state is None else state.version
                if events and envelope.subject not in outcome.loaded:
                    outcome.loaded[envelope.subject] = version
                state = fold(self.noun.evolve, state, events, context)
                for index, event in enumerate(events):
                    version += 1
                    place = sequence(owned.life, record.offset, index)
                    told = self._event(envelope, event, index, version, now, place, traced.parent(envelope))
                    outcome.journal.append(
                        Entry(owned.life, part.key.partition, record.offset, index, envelope.subject, version, told)
                    )
                    records.append((record.key, told))
                if events:
                    states[envelope.subject] = outcome.states[envelope.subject] = state
                if refusal is not None:
                    outcome.refuse(envelope, done, version, refusal)
                else:
                    # None of what never was, where nothing had to happen, either.
                    gone = state is None or getattr(state, "deleted_at", None) is not None
                    outcome.succeed(envelope, done, version, b"" if gone else self.noun.document(state))
            tenure = self._publisher.tenure(part.key.partition)
            outcome.publications.append(Publication(part.key.partition, tenure, part.span.end, records))
        return outcome

    def _event(
        self, envelope: Command, event: Any, index: int, version: int, now: datetime, place: str, parent: str | None
    ) -> bytes:
        return write(
            Event(
                id=event_id(envelope.operation, index),
                source=self._source,
                type=self.noun.event_names[type(event)],
                subject=envelope.subject,
                time=now,
                sequence=place,
                operation=envelope.operation,
                aggregateversion=version,
                data=msgspec.Raw(_encode(event)),
                actor=envelope.actor,
                traceparent=parent,
                tracestate=envelope.tracestate,
                requestid=envelope.requestid,
            )
        )

    # -- after -------------------------------------------------------------------------------------------------------

    async def after(self, result: Outcome) -> None:
        """The cache first, then the answers, so that the caller reads what it wrote; then the events."""
        entries = {}
        if self.noun.cached is not None:
            entries = {id: self.noun.cached(state) for id, state in result.states.items()}
        messages = {channel: write_answers(answers) for channel, answers in result.answers.items()}
        if entries or messages:
            await self._cache.put_and_publish(self.noun.name, entries, messages)
        await self._publisher.add(result.publications)

    async def _renew_cache(self, entries: list[Entry]) -> None:
        """The owner before may have died between its commit and the cache."""
        if self.noun.cached is None:
            return
        async with self._database.connection() as connection:
            _done, states = await self._store.load(connection, [], list({entry.aggregate_id for entry in entries}))
        await self._cache.put(self.noun.name, {id: self.noun.cached(state) for id, state in states.items()})
