"""What the handlers work with, made once for each process and handed to them by the application."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
from aiohttp import web

from config import Settings
from domain.access import Actor
from domain.accounts import Account
from domain.kinds import Kind
from domain.questions import Question
from domain.reports import Line
from domain.resources import Resource
from domain.second_factors import SecondFactor
from domain.sessions import Sessions
from domain.tables import Table
from domain.words import Term
from security.fields import Sealer
from security.passwords import Passwords
from security.tokens import Tokens
from stores.accounts import AccountQuery
from stores.api_keys import Usable, Used
from stores.belongings import Told
from stores.dead_letters import Listed, Parked
from stores.kinds import Schemas
from stores.mails import Sent
from stores.pages import Page, PageQuery, Total
from stores.reports import Dropped
from stores.resources import Change, View
from stores.search import Search
from streams.publish import Answer, Order, Pending
from web.access import AccessLog
from web.clients import Clients
from web.cors import Cors
from web.keyring import Keyring
from web.limits import SharedCounts
from web.problems import Presenters
from web.quotas import Quotas
from web.watchers import Hub, Store


class CommandPath(Protocol):
    """Where writes go: a command out, its answer back."""

    async def submit(self, order: Order, *, wait: float) -> Answer | Pending:
        """The answer, or Pending after `wait` seconds. Raises BrokerAway, Conflict."""

    async def find(self, operation: UUID, actor: Actor) -> Answer | Pending | None:
        """What became of an operation of `actor`; None if there is none. Raises StoresAway."""

    def ready(self) -> str:
        """`ok`, or why no command can be sent."""


class ResourceStore(Protocol):
    """Resources as they are read."""

    async def get(self, resource_id: UUID) -> View | None:
        """The resource as clients see it, or None if there is none (any more). Raises StoresAway."""

    async def also_deleted(self, id: UUID) -> Resource | None:
        """A resource from PostgreSQL, also if it is deleted. Raises StoresAway."""

    async def page(self, query: PageQuery) -> Page:
        """At most `query.limit` resources in the order asked for. Raises StoresAway."""

    async def total(self, query: PageQuery, terms: tuple[Term, ...] = ()) -> Total:
        """How many a list has. Raises StoresAway."""

    async def history(self, id: UUID, *, limit: int, after: int, public_only: bool) -> list[Change]:
        """What happened after version `after`, oldest first. Raises StoresAway."""


class KindStore(Protocol):
    """Kinds as they are read."""

    async def get(self, id: UUID) -> Kind | None:
        """One kind. Raises StoresAway."""

    async def listed(self, limit: int, after: str = "") -> list[Kind]:
        """Kinds by name, after one. Raises StoresAway."""

    async def schemas(self) -> Schemas:
        """The schemas that were in force a second ago, or later. Raises StoresAway."""


class AccountStore(Protocol):
    """Accounts as they are read, and their keys."""

    async def by_email_index(self, index: str) -> Account | None:
        """The account of an address. Raises StoresAway."""

    async def get(self, id: UUID) -> Account | None:
        """An account, also one that was erased. Raises StoresAway."""

    async def page(self, query: AccountQuery) -> list[Account]:
        """At most `query.limit` accounts, newest first, without the erased ones. Raises StoresAway."""

    async def keys_of(self, accounts: Sequence[UUID]) -> dict[UUID, bytes]:
        """The wrapped keys of those of these accounts that have one. Raises StoresAway."""

    async def put_key(self, account_id: UUID, wrapped: bytes) -> bytes:
        """Keeps an account's wrapped key, unless it has one; the one it has then. Raises StoresAway."""

    async def key(self, account_id: UUID) -> bytes | None:
        """An account's wrapped key; None once it is erased. Raises StoresAway."""

    async def drop_key(self, account_id: UUID) -> bool:
        """Removes the key if no account has that id; True if it did. Raises StoresAway."""


class SessionStore(Protocol):
    """Sessions as refreshing and listing need them."""

    async def get(self, account: UUID) -> Sessions | None:
        """The sessions of an account; None of one that never logged in. Raises StoresAway."""


class ApiKeyStore(Protocol):
    """API keys as verifying and listing need them."""

    async def get(self, account: UUID) -> Used | None:
        """The keys of an account; None of one that never had any. Raises StoresAway."""

    async def usable(self, account: UUID) -> Usable | None:
        """The keys by which something may be done now; None of an account that is not active. Raises StoresAway."""

    async def note_use(self, account: UUID, key: UUID, at: datetime) -> bool:
        """Writes down that a key was used, unless that was done a moment ago. Raises StoresAway."""


class SecondFactorStore(Protocol):
    """Second factors as a login needs them."""

    async def get(self, account: UUID) -> SecondFactor | None:
        """That of an account; None if it never began one. Raises StoresAway."""


class RevokedSessions(Protocol):
    """Sessions, and API keys, that ended while access tokens of theirs may still be about; asks nobody."""

    def __contains__(self, session: UUID | None) -> bool: ...

    def add(self, session: UUID) -> None:
        """This one has ended."""

    def watch(self, session: UUID | None, call: Callable[[], None]) -> AbstractContextManager[None]:
        """Within it, `call` is called when the session ends."""


class BelongingStore(Protocol):
    """What somebody owns."""

    async def resources(self, owner: UUID, after: UUID, limit: int) -> list[Resource]:
        """Resources of `owner` with ids above `after`, by id, the deleted ones too. Raises StoresAway."""

    async def history(self, noun: str, aggregate: UUID, after: int) -> list[Told]:
        """The next events of an object behind the version `after`; none at the end. Raises StoresAway."""


class ReportStore(Protocol):
    """The tables of the metrics."""

    async def tables(self) -> dict[str, Table]:
        """The tables that serve, by the names of their metrics. Raises StoresAway."""

    async def lines(
        self, table: Table, question: Question, most: int, after: tuple[int, str] | None = None
    ) -> list[Line]:
        """At most `most` of the lines that are asked for, in order. Raises StoresAway, TooMany."""

    async def dropped(self, table: Table, since: int, until: int) -> list[Dropped]:
        """Events in no window, by hour and reason, in order. Raises StoresAway."""


class LetterStore(Protocol):
    """Records that could not be handled."""

    async def listed(
        self, *, group: str | None, state: str | None, topic: str | None, limit: int, after: int
    ) -> list[Listed]:
        """Rows with an id above `after`, oldest first. Raises StoresAway."""

    async def get(self, id: int) -> Parked | None:
        """One row with everything. Raises StoresAway."""


class MailStore(Protocol):
    """Mails that were sent."""

    async def of(self, account: UUID) -> list[Sent]:
        """The mails about an account, oldest first. Raises StoresAway."""


class ReadStores(Protocol):
    """The stores that the front reads."""

    @property
    def resources(self) -> ResourceStore:
        """Resources."""

    @property
    def kinds(self) -> KindStore:
        """Kinds."""

    @property
    def search(self) -> Search:
        """Full text."""

    @property
    def accounts(self) -> AccountStore:
        """Accounts."""

    @property
    def sessions(self) -> SessionStore:
        """Sessions."""

    @property
    def api_keys(self) -> ApiKeyStore:
        """API keys."""

    @property
    def second_factors(self) -> SecondFactorStore:
        """Second factors."""

    @property
    def revoked(self) -> RevokedSessions:
        """Sessions and API keys that have ended."""

    @property
    def belongings(self) -> BelongingStore:
        """What somebody owns."""

    @property
    def mails(self) -> MailStore:
        """Mails that were sent."""

    @property
    def reports(self) -> ReportStore:
        """The tables of the metrics."""

    @property
    def dead_letters(self) -> LetterStore:
        """Records that could not be handled."""

    @property
    def watching(self) -> Store:
        """Live tables."""

    @property
    def limits(self) -> SharedCounts:
        """What the processes count together."""

    async def ready(self) -> dict[str, str]:
        """`ok` or a reason, for each store by name; within a few seconds, and never raises."""


class Parts(msgspec.Struct, frozen=True):
    """Everything a handler may need."""

    settings: Settings
    commands: CommandPath
    stores: ReadStores
    tokens: Tokens
    passwords: Passwords
    sealer: Sealer
    presenters: Presenters
    live: Hub
    quotas: Quotas
    keyring: Keyring


class Door:
    """Who is inside: how many requests run, and whether this process is about to end."""

    def __init__(self) -> None:
        self.running = 0
        self.closing = False
        self.at_close: list[Callable[[], None]] = []
        """Called when it closes, to end what would go on for ever."""
        self._empty = asyncio.Event()

    def leave(self) -> None:
        """One request is done."""
        self.running -= 1
        if self.closing and self.running == 0:
            self._empty.set()

    async def close(self, patience: float) -> None:
        """From now on every answer ends its connection; waits up to `patience` seconds until nothing runs."""
        self.closing = True
        for call in self.at_close:
            call()
        if self.running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._empty.wait()


DOOR: web.AppKey[Door] = web.AppKey("door", Door)

ACCESS: web.AppKey[AccessLog] = web.AppKey("access", AccessLog)

CLIENTS: web.AppKey[Clients] = web.AppKey("clients", Clients)
"""Tells the real address of a caller: `request.app[CLIENTS].address(request)`."""

CORS: web.AppKey[Cors] = web.AppKey("cors", Cors)

PAYLOAD: web.RequestKey[dict[str, Any]] = web.RequestKey("payload", dict)
"""The claims and scopes of the verified token; not there for a guest."""

ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)
"""Who asks; there for every endpoint of the API that looks at tokens."""

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""The id of the request, the caller's or ours."""

ASKED: web.RequestKey[list[UUID]] = web.RequestKey("asked", list[UUID])
"""The operations that the request asks for; see `operations_of`."""


def operations_of(request: web.Request) -> list[UUID]:
    """What the log says that the request asked for; who sends a command for it puts its operation in."""
    return request[ASKED]


PARTS: web.AppKey[Parts] = web.AppKey("parts", Parts)
