"""Who asks a front over HTTP: each request over a connection of its own, so that all of its processes are met."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp

from domain.access import Role
from security import fields
from stores import revocations
from tests.flows.harness import FULL_SIZE, SENT_S

if TYPE_CHECKING:
    from tests.flows.harness import System

PASSWORD = "correct horse"
PROMISED_S = 1.0
"""What has ended is refused by every process within this time."""
HEARD_S = 10.0
"""The same where the machine does other things, too: word of it may be lost, and PostgreSQL is asked every 5 s."""
DEVICE = "tests of sessions"
LIMIT = aiohttp.ClientTimeout(total=90)
WAIT = {"Prefer": "wait=30"}


_numbers = itertools.count(1)


def address_of(name: str) -> str:
    """An e-mail address that no other test has."""
    return f"{name}-{next(_numbers)}@example.com"


async def comes_again(request: aiohttp.ClientRequest, ask: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A caller's way, who comes again as it is told: Kafka that stands still for a second is away, and took nothing."""
    deadline = time.monotonic() + SENT_S
    while True:
        answer = await ask(request)
        if answer.status != 503 or b"BROKER_AWAY" not in await answer.read() or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def asked(
    method: str, url: str, headers: dict[str, str], token: str = "", *, again: bool = True, **more: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to one request, which waits for what it asks for. `again`: it comes again as it is told."""
    who = {"Authorization": f"Bearer {token}"} if token else {}
    ways = (comes_again,) if again else ()
    async with (
        aiohttp.ClientSession(headers=who | WAIT | headers, timeout=LIMIT, middlewares=ways) as session,
        session.request(method, url, **more) as answer,
    ):
        yield answer


async def told(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    """Status, and the data or the code of the error; None where nothing is said."""
    shown: Any = await answer.json() if await answer.read() else {"data": None}
    return answer.status, shown["data"] if "data" in shown else shown["error"]["code"]


class Caller:
    """One account (or nobody) and its requests."""

    def __init__(self, url: str, token: str = "", id: str = "") -> None:
        self.url = url
        self.token = token
        self.id = id

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status, and the data or the code of the error."""
        async with asked(method, self.url + path, headers, self.token, json=body) as answer:
            return await told(answer)

    async def register(self, email: str, **more: Any) -> Caller:
        """Somebody new."""
        status, data = await self.ask("POST", "/auth/register", {"email": email, "password": PASSWORD, **more})
        assert status == 201, data
        return Caller(self.url, data["access_token"], data["user"]["id"])

    async def export(self) -> Any:
        """Everything of the account."""
        async with asked("GET", self.url + "/users/me/export", {}, self.token) as answer:
            assert answer.status == 200
            return await answer.json()


async def admin_of(installation: System, guest: Caller, email: str = "admin@example.com") -> Caller:
    """The admin with that address, who is made if need be."""
    token = await installation.token(email, Role.ADMIN)
    row = await installation.stores.accounts.by_email_index(fields.index(installation.settings.index_key, email))
    assert row is not None
    return Caller(guest.url, token, str(row.id))


async def told_to_fronts(installation: System) -> set[str]:
    """The sessions and API keys of whose end word was given to the fronts: PostgreSQL need not be asked for these."""
    redis = installation.stores.redis
    entries = await redis.client.xrange(revocations._key(redis))
    return {str(id) for _, told in entries for id, _ in revocations._decode(told[b"ended"])}


class Browser:
    """Somebody who logs in again and again: each request says with which token."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.who = {"email": address_of("han"), "password": PASSWORD}

    async def ask(self, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status, and the data or the code of the error."""
        async with asked(method, self._url + path, headers | {"User-Agent": DEVICE}, token, json=body) as answer:
            return await told(answer)

    async def export(self, token: str) -> Any:
        """Everything of the account."""
        return await Caller(self._url, token).export()

    async def register(self) -> Any:
        """The tokens of its first session."""
        status, data = await self.ask("POST", "/auth/register", body=self.who)
        assert status == 201, data
        return data

    async def login(self) -> Any:
        """The tokens of another session."""
        status, data = await self.ask("POST", "/auth/login", body=self.who)
        assert status == 200, data
        return data

    async def refresh(self, token: str, **headers: str) -> tuple[int, Any]:
        """With a refresh token: the next ones."""
        return await self.ask("POST", "/auth/refresh", body={"refresh_token": token}, **headers)

    async def takes(self, tokens: Any) -> set[int]:
        """How the processes of the front answer to an access token."""
        answers = [self.ask("GET", "/resources", tokens["access_token"]) for _ in range(12)]
        return {status for status, _ in await asyncio.gather(*answers)}

    async def refused_everywhere(self, tokens: Any, since: float, promised_s: float = PROMISED_S) -> None:
        """In time by every process: what was asked after that time is refused. `since`: when it was answered.

        Whoever asks again and again meanwhile keeps what the processes remember of it from being forgotten.
        """
        if not FULL_SIZE:
            await self._refused_at_last(tokens, since + HEARD_S)
            return
        while time.monotonic() < since + promised_s:
            await self.takes(tokens)
            await asyncio.sleep(min(0.1, max(0.0, since + promised_s - time.monotonic())))
        assert await self.takes(tokens) == {401}

    async def _refused_at_last(self, tokens: Any, deadline: float) -> None:
        """Twice in a row, so that no process was left out by chance."""
        rounds = 0
        while rounds < 2:
            asked_at = time.monotonic()
            answers = await self.takes(tokens)
            rounds = rounds + 1 if answers == {401} else 0
            assert rounds or asked_at < deadline, answers
            await asyncio.sleep(0.1)
