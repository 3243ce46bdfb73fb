"""Stores of accounts and of what belongs to them, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from domain import accounts, api_keys, resources, second_factors, sessions
from stores import StoresAway
from stores.accounts import AccountQuery
from stores.api_keys import Usable, Used
from stores.belongings import Told
from stores.mails import Sent
from tests.web.fake_resources import FakeResources


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
