"""A command path and stores in memory, for the tests of the front alone; the real ones are tested in tests/flows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from config import Settings
from security.fields import Sealer
from security.mail_tokens import MailToken
from security.passwords import Passwords
from security.tokens import Tokens
from stores.limits import Deeds
from stores.redis import RedisAway
from tests.web.fake_accounts import (
    FakeAccounts,
    FakeApiKeys,
    FakeBelongings,
    FakeMails,
    FakeRevoked,
    FakeSecondFactors,
    FakeSessions,
)
from tests.web.fake_commands import FakeCommands
from tests.web.fake_resources import FakeKinds, FakeResources, FakeSearch
from tests.web.fake_tables import FakeLetters, FakeReports, FakeWatching
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
class FakeLimits:
    """What processes count together; several of them may share one of these."""

    totals: dict[tuple[str, str, int], int] = field(default_factory=dict)
    familiar: set[tuple[UUID, str]] = field(default_factory=set)
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

    async def is_familiar(self, account: UUID, place: str) -> bool:
        return not self.away and (account, place) in self.familiar

    async def make_familiar(self, account: UUID, place: str) -> None:
        self._there()
        self.familiar.add((account, place))

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
