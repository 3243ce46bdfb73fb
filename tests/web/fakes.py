"""A command path and stores in memory, for the tests of the front alone; the real ones are tested in tests/flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from config import Settings
from domain import accounts, api_keys, kinds, resources, second_factors, sessions
from domain.access import Actor, Role, may_read
from domain.account_mails import ConfirmEmailChange
from domain.aggregates import Context, fold
from domain.boards import View
from domain.metrics import Metric
from domain.questions import Question
from domain.refusals import Code, Refusal
from domain.reports import Line
from domain.tables import Table
from domain.words import Term
from security.fields import Sealer
from security.mail_tokens import MailToken
from security.passwords import Passwords
from security.tokens import Tokens
from stores import StoresAway
from stores.accounts import AccountQuery
from stores.api_keys import Usable, Used
from stores.belongings import Told
from stores.dead_letters import Listed, Parked
from stores.kinds import Schemas
from stores.limits import Deeds
from stores.live import Changes
from stores.mails import Sent
from stores.narrowing import Filter, Op
from stores.pages import Page, PageQuery, Total, order
from stores.redis import RedisAway
from stores.reports import Dropped
from stores.resources import Change
from stores.resources import View as ResourceView
from stores.search import Hit, Sought
from stores.selecting import TooMany
from stores.totals import Row
from streams.publish import Answer, Order, Pending
from web.clients import Clients
from web.keyring import Keyring
from web.parts import Parts
from web.problems import Presenters
from web.quotas import Quotas
from web.watchers import Hub

SETTINGS = Settings(
    environment="local",
    command_key=b"c" * 32,
    index_key=b"i" * 32,
    cursor_key=b"u" * 32,
    sealing_keys=(b"s" * 32,),
    token_keys=(("first", b"1" * 32), ("second", b"2" * 32)),
    log_level="warning",
)


@dataclass
class FakeCommands:
    """Applies commands at once, as the agents would."""

    stores: FakeStores
    submitted: list[Order] = field(default_factory=list)
    done: dict[UUID, tuple[Order, Answer]] = field(default_factory=dict)
    raises: Exception | None = None
    slow: bool = False
    state: str = "ok"

    def ready(self) -> str:
        return self.state

    async def submit(self, order: Order, *, wait: float) -> Answer | Pending:
        if self.raises is not None:
            raise self.raises
        self.submitted.append(order)
        if order.operation in self.done:
            first, answer = self.done[order.operation]
            if first.fingerprint != order.fingerprint:
                return Answer(order.operation, "refused", False, b"", 0, Refusal(Code.KEY_REUSED))
            return msgspec.structs.replace(answer, replayed=True)
        answer = self.apply(order)
        self.done[order.operation] = (order, answer)
        return Pending(order.operation) if self.slow or wait == 0 else answer

    async def find(self, operation: UUID, actor: Actor) -> Answer | Pending | None:
        if self.raises is not None:
            raise self.raises
        found = self.done.get(operation)
        if found is None or (found[0].actor.id != actor.id and actor.role is not Role.ADMIN):
            return None
        return Pending(operation) if self.slow else found[1]

    def apply(self, order: Order) -> Answer:
        nouns = {
            "resources": resources, "accounts": accounts, "kinds": kinds, "sessions": sessions, "api_keys": api_keys,
            "second_factors": second_factors,
        }  # fmt: skip
        noun: Any = nouns[order.noun]
        states: dict[UUID, Any] = getattr(self.stores, order.noun).states
        command = msgspec.json.decode(order.data, type=noun.COMMANDS[order.type])
        context = Context(order.actor, order.aggregate_id, datetime.now(UTC))
        state: Any = states.get(order.aggregate_id)
        events = noun.decide(state, command, context)
        if isinstance(events, Refusal):
            return Answer(order.operation, "refused", False, b"", 0, events)
        if noun is accounts and isinstance(command, accounts.CreateAccount | ConfirmEmailChange):
            for id, other in states.items():
                if id != order.aggregate_id and other.email_index == command.email_index:
                    return Answer(order.operation, "refused", False, b"", 0, Refusal(Code.EMAIL_TAKEN))
        state = fold(noun.evolve, state, events, context)
        states[order.aggregate_id] = state
        if noun is accounts and state.status is accounts.AccountStatus.ERASED:
            self.stores.accounts.keys.pop(order.aggregate_id, None)
        gone = getattr(state, "deleted_at", None) is not None
        return Answer(order.operation, "succeeded", False, b"" if gone else noun.document(state), state.version)


@dataclass
class FakeResources:
    states: dict[UUID, resources.Resource] = field(default_factory=dict)
    raises: Exception | None = None

    async def get(self, resource_id: UUID) -> ResourceView | None:
        if self.raises is not None:
            raise self.raises
        state = self.states.get(resource_id)
        if state is None or state.deleted_at is not None:
            return None
        return ResourceView(resources.document(state), state.owner_id, state.visibility, state.version)

    async def also_deleted(self, id: UUID) -> resources.Resource | None:
        return self.states.get(id)

    async def total(self, query: PageQuery, terms: tuple[Term, ...] = ()) -> Total:
        page = await self.page(msgspec.structs.replace(query, limit=10_000, after=None))
        return Total(len(page.items), True)

    async def history(self, id: UUID, *, limit: int, after: int, public_only: bool) -> list[Change]:
        return []

    async def page(self, query: PageQuery) -> Page:
        if self.raises is not None:
            raise self.raises
        found = [
            state
            for state in self.states.values()
            if (state.deleted_at is not None) == query.deleted
            and may_read(query.visible_to, state.owner_id, state.visibility)
            and all(wanted(state, narrowing) for narrowing in query.filters)
        ]
        found.sort(key=lambda state: state.id, reverse=query.sort[-1][1])
        for column, descending in reversed(query.sort):
            found.sort(key=lambda state, column=column: getattr(state, column), reverse=descending)  # type: ignore[misc]
        if query.after is not None:
            places = [(*(getattr(state, column) for column, _ in query.sort), state.id) for state in found]
            found = found[places.index((*query.after[: len(query.sort)], query.after[-1])) + 1 :]
        page = found[: query.limit]
        if len(found) <= query.limit:
            return Page(page, None)
        return Page(page, tuple(getattr(page[-1], column) for column, _ in order(query)))


def wanted(state: resources.Resource, narrowing: Filter) -> bool:
    """Whether a resource is as a filter says; the operators of times are for the real store (tests/stores)."""
    value = getattr(state, narrowing.field)
    match narrowing.op:
        case Op.EQ:
            return bool(value == narrowing.value)
        case Op.NE:
            return bool(value != narrowing.value)
        case Op.IN:
            return value in narrowing.value
        case _:
            return narrowing.value in value


@dataclass
class FakeKinds:
    states: dict[UUID, kinds.Kind] = field(default_factory=dict)

    def kept(self) -> list[kinds.Kind]:
        return sorted((kind for kind in self.states.values() if kind.deleted_at is None), key=lambda kind: kind.kind)

    async def get(self, id: UUID) -> kinds.Kind | None:
        return next((kind for kind in self.kept() if kind.id == id), None)

    async def listed(self, limit: int, after: str = "") -> list[kinds.Kind]:
        return [kind for kind in self.kept() if kind.kind > after][:limit]

    async def schemas(self, *, at_most: float = 1.0) -> Schemas:
        return Schemas(1, {kind.kind: kind.schema for kind in self.kept()})


@dataclass
class FakeSearch:
    hits: list[Hit] = field(default_factory=list)
    sought: list[Sought] = field(default_factory=list)

    async def find(self, sought: Sought) -> list[Hit]:
        self.sought.append(sought)
        return self.hits[: sought.limit]


@dataclass
class FakeAccounts:
    states: dict[UUID, accounts.Account] = field(default_factory=dict)
    keys: dict[UUID, bytes] = field(default_factory=dict)

    async def by_email_index(self, index: str) -> accounts.Account | None:
        return next((state for state in self.states.values() if state.email_index == index), None)

    async def get(self, id: UUID) -> accounts.Account | None:
        return self.states.get(id)

    async def page(self, query: AccountQuery) -> list[accounts.Account]:
        found = [
            state
            for state in self.states.values()
            if state.status is not accounts.AccountStatus.ERASED
            and query.email_index in (None, state.email_index)
            and query.status in (None, state.status.value)
            and query.role in (None, state.role.value)
            and (query.after is None or (state.created_at, state.id) < query.after)
        ]
        return sorted(found, key=lambda state: (state.created_at, state.id), reverse=True)[: query.limit]

    async def keys_of(self, accounts: Sequence[UUID]) -> dict[UUID, bytes]:
        return {id: self.keys[id] for id in accounts if id in self.keys}

    async def put_key(self, account_id: UUID, wrapped: bytes) -> bytes:
        return self.keys.setdefault(account_id, wrapped)

    async def key(self, account_id: UUID) -> bytes | None:
        return self.keys.get(account_id)

    async def drop_key(self, account_id: UUID) -> bool:
        return account_id not in self.states and self.keys.pop(account_id, None) is not None


@dataclass
class FakeMails:
    sent: dict[UUID, list[Sent]] = field(default_factory=dict)

    async def of(self, account: UUID) -> list[Sent]:
        return self.sent.get(account, [])


@dataclass
class FakeSessions:
    states: dict[UUID, sessions.Sessions] = field(default_factory=dict)

    async def get(self, account: UUID) -> sessions.Sessions | None:
        return self.states.get(account)


@dataclass
class FakeSecondFactors:
    states: dict[UUID, second_factors.SecondFactor] = field(default_factory=dict)

    async def get(self, account: UUID) -> second_factors.SecondFactor | None:
        return self.states.get(account)


@dataclass
class FakeApiKeys:
    """Keys, and the uses that were noted; `raises` instead of looking one up."""

    of: FakeAccounts
    states: dict[UUID, api_keys.ApiKeys] = field(default_factory=dict)
    uses: list[tuple[UUID, UUID, datetime]] = field(default_factory=list)
    looked: int = 0
    raises: Exception | None = None

    async def get(self, account: UUID) -> Used | None:
        state = self.states.get(account)
        return None if state is None else Used(state, {key: at for _, key, at in self.uses})

    async def usable(self, account: UUID) -> Usable | None:
        self.looked += 1
        await asyncio.sleep(0)  # as any answer from elsewhere: others come meanwhile
        if self.raises is not None:
            raise self.raises
        state, owner = self.states.get(account), self.of.states.get(account)
        if state is None or owner is None or owner.status is not accounts.AccountStatus.ACTIVE:
            return None
        return Usable(state, owner.role)

    async def note_use(self, account: UUID, key: UUID, at: datetime) -> bool:
        self.uses.append((account, key, at))
        return True


@dataclass
class FakeRevoked:
    """What this process alone has heard of."""

    ended: set[UUID] = field(default_factory=set)
    calls: list[tuple[UUID | None, Callable[[], None]]] = field(default_factory=list)

    def __contains__(self, session: UUID | None) -> bool:
        return session in self.ended

    def add(self, session: UUID) -> None:
        self.ended.add(session)
        for watched, call in tuple(self.calls):
            if watched == session:
                call()

    @contextmanager
    def watch(self, session: UUID | None, call: Callable[[], None]) -> Iterator[None]:
        self.calls.append((session, call))
        try:
            yield
        finally:
            self.calls.remove((session, call))


@dataclass
class FakeBelongings:
    """What the resources' states say; `events` are the histories, and `cut` breaks a reading off behind so many."""

    of: FakeResources
    events: dict[tuple[str, UUID], list[Told]] = field(default_factory=dict)
    cut: int | None = None

    async def resources(self, owner: UUID, after: UUID, limit: int) -> list[resources.Resource]:
        if self.cut is not None:
            if self.cut == 0:
                raise StoresAway("cut")
            self.cut -= 1
        owned = sorted(
            (state for state in self.of.states.values() if state.owner_id == owner and state.id > after),
            key=lambda state: state.id,
        )
        return owned[:limit]

    async def history(self, noun: str, aggregate: UUID, after: int) -> list[Told]:
        return [told for told in self.events.get((noun, aggregate), []) if told.version > after][:2]


@dataclass
class FakeWatching:
    """Tables, their rows, and a channel that a test fills: a Changes, None for one that opens, or an error."""

    serving: dict[str, Table] = field(default_factory=dict)
    found: list[Row] = field(default_factory=list)
    raises: Exception | None = None
    channel: asyncio.Queue[Changes | Exception | None] = field(default_factory=asyncio.Queue)
    order: list[str] = field(default_factory=list)
    before_rows: Callable[[], None] = field(default=lambda: None)

    async def tables(self) -> dict[str, Table]:
        if self.raises is not None:
            raise self.raises
        return dict(self.serving)

    async def rows(self, table: Table, view: View, since: int, most: int) -> list[Row]:
        self.order.append("rows")
        if self.raises is not None:
            raise self.raises
        found = [row for row in self.found if row.slot.metric == table.id and row.slot.start >= since]
        if len(found) > most:
            raise TooMany
        self.before_rows()
        return found

    async def listen(self, metric: str) -> AsyncIterator[Changes | None]:
        self.order.append(f"listen {metric}")
        yield None
        try:
            while True:
                told = await self.channel.get()
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            self.order.append(f"closed {metric}")


@dataclass
class FakeReports:
    """Metrics whose lines are given; which of them are asked for is what the real store says (tests/stores)."""

    metrics: list[Metric] = field(default_factory=list)
    found: dict[str, list[Line]] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)
    left_out: list[Dropped] = field(default_factory=list)
    raises: Exception | None = None

    async def tables(self) -> dict[str, Table]:
        return {metric.name: Table(number, metric) for number, metric in enumerate(self.metrics)}

    async def dropped(self, table: Table, since: int, until: int) -> list[Dropped]:
        return [one for one in self.left_out if since <= one.start < until]

    async def lines(
        self, table: Table, question: Question, most: int, after: tuple[int, str] | None = None
    ) -> list[Line]:
        if self.raises is not None:
            raise self.raises
        self.asked.append(question)
        return [
            line for line in self.found.get(table.metric.name, []) if after is None or (line.start, line.group) > after
        ][:most]


@dataclass
class FakeLetters:
    parked: list[Parked] = field(default_factory=list)

    async def listed(
        self, *, group: str | None, state: str | None, topic: str | None, limit: int, after: int
    ) -> list[Listed]:
        return [
            Listed(
                id=one.id, state=one.state, group=one.group, topic=one.topic, partition=one.partition,
                offset=one.offset, code=one.code, error=one.error, handler=one.handler, attempts=one.attempts,
                parked_at=one.parked_at, size=None if one.value is None else len(one.value),
            )
            for one in self.parked
            if one.id > after
            and group in (None, one.group)
            and state in (None, one.state)
            and topic in (None, one.topic)
        ][:limit]  # fmt: skip

    async def get(self, id: int) -> Parked | None:
        return next((one for one in self.parked if one.id == id), None)


@dataclass
class FakeLimits:
    """What processes count together; several of them may share one of these."""

    totals: dict[tuple[str, str, int], int] = field(default_factory=dict)
    familiar: set[tuple[str, str]] = field(default_factory=set)
    away: bool = False
    exchanges: int = 0

    async def add(self, deeds: list[Deeds]) -> list[tuple[int, int]]:
        self._there()
        self.exchanges += 1
        found = []
        for limit, who, window, _, added in deeds:
            total = self.totals[limit, who, window] = self.totals.get((limit, who, window), 0) + added
            found.append((total, self.totals.get((limit, who, window - 1), 0)))
        return found

    async def is_familiar(self, account: str, address: str) -> bool:
        return not self.away and (account, address) in self.familiar

    async def make_familiar(self, account: str, address: str) -> None:
        self._there()
        self.familiar.add((account, address))

    def _there(self) -> None:
        if self.away:
            raise RedisAway("it was stopped")


@dataclass
class FakeStores:
    limits: FakeLimits = field(default_factory=FakeLimits)
    watching: FakeWatching = field(default_factory=FakeWatching)
    resources: FakeResources = field(default_factory=FakeResources)
    kinds: FakeKinds = field(default_factory=FakeKinds)
    search: FakeSearch = field(default_factory=FakeSearch)
    accounts: FakeAccounts = field(default_factory=FakeAccounts)
    sessions: FakeSessions = field(default_factory=FakeSessions)
    mails: FakeMails = field(default_factory=FakeMails)
    revoked: FakeRevoked = field(default_factory=FakeRevoked)
    reports: FakeReports = field(default_factory=FakeReports)
    dead_letters: FakeLetters = field(default_factory=FakeLetters)
    states: dict[str, str] = field(default_factory=lambda: {"postgres": "ok", "redis": "ok"})

    def __post_init__(self) -> None:
        self.belongings = FakeBelongings(self.resources)
        self.api_keys = FakeApiKeys(self.accounts)
        self.second_factors = FakeSecondFactors()

    async def ready(self) -> dict[str, str]:
        return self.states


class Fakes:
    """The parts of one application, and handles on the fakes among them."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.stores = FakeStores()
        self.commands = FakeCommands(self.stores)
        self.tokens = Tokens(settings.token_keys, settings.environment)
        self.sealer = Sealer(*settings.sealing_keys)
        self.live = Hub(self.stores.watching)

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Parts]:
        passwords = Passwords(memory_kib=64, passes=1)
        quotas = Quotas(settings, self.stores.limits, Clients(settings))
        keyring = Keyring(self.stores.api_keys, self.stores.revoked, quotas, settings.environment)
        yield Parts(
            settings=settings,
            commands=self.commands,
            stores=self.stores,
            tokens=self.tokens,
            passwords=passwords,
            sealer=self.sealer,
            presenters=Presenters(https=settings.environment != "local"),
            live=self.live,
            quotas=quotas,
            keyring=keyring,
        )
        await keyring.close()
        await self.live.close()
        await quotas.close()
        passwords.close()

    def mailed(self, kind: str = "request_reset") -> str:
        """The token of the mail that comes of the latest command of this kind."""
        order = next(one for one in reversed(self.commands.submitted) if one.type == kind)
        data = msgspec.json.decode(order.data)
        purpose = {"request_reset": "reset", "request_email_change": "change"}.get(kind, "verify")
        nonce = (data["verification"] if kind == "create_account" else data["token"])["nonce"]
        key, environment = self.settings.command_key, self.settings.environment
        return MailToken.made(key, environment, purpose, order.aggregate_id, nonce).text
