"""Sessions on real servers, through fronts of several processes and a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest

import topics
from domain.access import SYSTEM, Role
from domain.accounts import ChangeRole
from embedded.stack import Stack
from security.refresh import RefreshToken
from streams import identity
from streams.envelope import STRUCTURED_HEADERS, Event, sequence, write
from streams.publish import Order
from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "correct horse"
PROMISED_S = 1.0


class Browser:
    """Each request over a connection of its own, so that all processes of a front are met."""

    def __init__(self, url: str, email: str = "han@example.org") -> None:
        self._url = url
        self._who = {"email": email, "password": PASSWORD}

    async def ask(self, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> tuple[int, Any]:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.request(
                method, self._url + path, json=body, headers=headers | {"Prefer": "wait=30"}
            ) as answer,
        ):  # fmt: skip
            shown: Any = await answer.json() if answer.status != 204 else {"data": None}
            return answer.status, shown["data"] if "data" in shown else shown["error"]["code"]

    async def register(self) -> Any:
        status, data = await self.ask("POST", "/auth/register", body=self._who)
        assert status == 201
        return data

    async def login(self) -> Any:
        status, data = await self.ask("POST", "/auth/login", body=self._who)
        assert status == 200, data
        return data

    async def refresh(self, token: str, **headers: str) -> tuple[int, Any]:
        return await self.ask("POST", "/auth/refresh", body={"refresh_token": token}, **headers)

    async def takes(self, tokens: Any) -> set[int]:
        """How the processes of the front answer to an access token."""
        asked = [self.ask("GET", "/resources", tokens["access_token"]) for _ in range(12)]
        return {status for status, _ in await asyncio.gather(*asked)}

    async def refused_everywhere(self, tokens: Any, since: float, promised_s: float = PROMISED_S) -> None:
        """In time by every process: what was asked after that time is refused."""
        while time.monotonic() < since + promised_s:
            await self.takes(tokens)
        assert await self.takes(tokens) == {401}


def session_of(tokens: Any) -> UUID:
    token = RefreshToken.read(tokens["refresh_token"])
    assert token is not None
    return token.session


async def started(installation: System) -> Browser:
    worker, front = installation.worker(), installation.front()
    await asyncio.gather(worker.start(), front.start())
    return Browser(installation.url_of(front))


OVER = (401, "SESSION_ENDED")


async def test_tokens_follow_each_other_and_one_used_twice_ends_the_session(installation: System) -> None:
    browser = await started(installation)
    first, other = await browser.register(), await browser.login()
    tokens = first
    for _ in range(3):
        status, tokens = await browser.refresh(tokens["refresh_token"])
        assert (status, await browser.takes(tokens)) == (200, {200})
    used_at = time.monotonic()
    assert await browser.refresh(first["refresh_token"]) == OVER
    assert await browser.refresh(tokens["refresh_token"]) == OVER
    await browser.refused_everywhere(tokens, used_at)
    assert await browser.takes(other) == {200}
    # Two at once are decided in order: one goes on, and the other one has used a used token.
    answers = await asyncio.gather(*(browser.refresh(other["refresh_token"]) for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 401]
    (winner,) = [data for status, data in answers if status == 200]
    assert await browser.refresh(winner["refresh_token"]) == OVER
    await installation.until_published()
    applied, _repeats = await installation.events("events.sessions")
    assert [event["type"] for event in applied] == [
        "session.started", "session.started", *["session.refreshed"] * 3, "session.reused", "session.revoked",
        "session.refreshed", "session.reused", "session.revoked",
    ]  # fmt: skip
    assert {event["subject"] for event in applied} == {first["user"]["id"]}
    assert {event["source"] for event in applied} == {"/yeoul/sessions"}


async def test_a_lost_answer_is_asked_for_again(installation: System) -> None:
    browser = await started(installation)
    tokens = await browser.register()
    key = {"Idempotency-Key": "once"}
    (_, one), (status, two) = [await browser.refresh(tokens["refresh_token"], **key) for _ in range(2)]
    assert (status, one["refresh_token"]) == (200, two["refresh_token"])
    assert (await browser.refresh(two["refresh_token"], **key))[0] == 200
    assert await browser.refresh(tokens["refresh_token"], **key) == OVER


async def test_no_refresh_token_rests_anywhere(installation: System) -> None:
    browser = await started(installation)
    tokens = await browser.register()
    secrets = [tokens["refresh_token"]]
    _, tokens = await browser.refresh(tokens["refresh_token"])
    secrets.append(tokens["refresh_token"])
    assert await browser.refresh(secrets[0]) == OVER
    await installation.until_published()
    texts = [path.read_text() for path in sorted(installation._folder.glob("*.log"))]
    for table in ("sessions", "journal", "operations"):
        rows = await installation.stores.database.fetch(f"SELECT to_json(t)::text FROM {table} t")
        assert rows
        texts += [row[0] for row in rows]
    texts += [str(event) for event in (await installation.events("events.sessions"))[0]]
    assert [text for text in texts for secret in secrets if secret[40:] in text] == []


async def test_logout_counts_in_every_process_in_time(installation: System) -> None:
    browser = await started(installation)
    tokens = [await browser.register(), *[await browser.login() for _ in range(4)]]
    assert await browser.takes(tokens[0]) == {200}
    asked_at = time.monotonic()
    assert await browser.ask("POST", "/auth/logout", tokens[0]["access_token"]) == (204, None)
    await browser.refused_everywhere(tokens[0], asked_at)
    id = session_of(tokens[1])
    asked_at = time.monotonic()
    assert await browser.ask("DELETE", f"/sessions/{id}", tokens[2]["access_token"]) == (204, None)
    await browser.refused_everywhere(tokens[1], asked_at)
    status, shown = await browser.ask("GET", "/sessions", tokens[2]["access_token"])
    assert (status, len(shown), [one["current"] for one in shown].count(True)) == (200, 3, 1)
    assert {one["address"] for one in shown} == {"127.0.0.1"}
    asked_at = time.monotonic()
    assert await browser.ask("POST", "/auth/logout-all", tokens[2]["access_token"]) == (204, None)
    await browser.refused_everywhere(tokens[3], asked_at)
    for each in tokens:
        assert await browser.refresh(each["refresh_token"]) == OVER
    assert await browser.takes(await browser.login()) == {200}


async def test_logout_counts_while_redis_stands_still(installation: System, stack: Stack) -> None:
    """Frozen, not gone: nobody is told anything, and PostgreSQL is asked."""
    browser = await started(installation)
    first, second = await browser.register(), await browser.login()
    os.kill(stack.pids["valkey"], signal.SIGSTOP)
    try:
        assert (await browser.ask("POST", "/auth/logout", first["access_token"]))[0] in (204, 401)
        # Asking itself is slower then; what counts is from when on every process knows.
        await browser.refused_everywhere(first, time.monotonic())
        assert await browser.takes(second) == {200}
    finally:
        os.kill(stack.pids["valkey"], signal.SIGCONT)
    assert await browser.takes(first) == {401}
    asked_at = time.monotonic() + 1.0
    await browser.ask("POST", "/auth/logout", second["access_token"])
    await browser.refused_everywhere(second, asked_at)


async def test_what_happens_to_the_account_ends_its_sessions(installation: System) -> None:
    browser = await started(installation)
    tokens = [await browser.register(), await browser.login()]
    account = UUID(tokens[0]["user"]["id"])
    operation = identity.new_operation()
    order = Order(
        noun="accounts", type="change_role", aggregate_id=account, operation=operation, actor=SYSTEM,
        data=msgspec.json.encode(ChangeRole(Role.ADMIN)), fingerprint=operation.hex,
    )  # fmt: skip
    await installation.commands.submit(order, wait=30)
    done_at = time.monotonic()
    for each in tokens:
        await browser.refused_everywhere(each, done_at, 2 * PROMISED_S)  # the event goes first, then the word
        assert await browser.refresh(each["refresh_token"]) == OVER
    later = await browser.login()
    assert await browser.takes(later) == {200}


async def test_events_of_accounts_by_their_names(installation: System) -> None:
    """As the owner of the accounts writes them: which of the sessions end, and that a repeat ends no newer one."""
    browser = await started(installation)
    data = await browser.register()
    account, kept = UUID(data["user"]["id"]), session_of(data)
    await installation.until_published()
    (created,) = (await installation.events("events.accounts"))[0]
    place = int(created["sequence"].split(".")[1])

    async def happens(kind: str, version: int, **data: Any) -> None:
        operation = uuid4()
        event = Event(
            id=f"{operation}.0", source="/yeoul/accounts", type=kind, subject=account, operation=operation,
            time=msgspec.convert(created["time"], datetime), aggregateversion=version,
            sequence=sequence(0, place + version, 0), data=msgspec.Raw(msgspec.json.encode(data)),
        )  # fmt: skip
        producer = await installation.commands.broker.current()
        await producer.send_and_wait(
            topics.EVENTS_ACCOUNTS.full_name(installation.settings.topic_prefix), write(event),
            str(account).encode(), headers=STRUCTURED_HEADERS,
        )  # fmt: skip

    async def held() -> set[UUID]:
        state = await installation.stores.sessions.get(account)
        assert state is not None
        return {one.id for one in state.held}

    async def barred(version: int) -> bool:
        state = await installation.stores.sessions.get(account)
        return state is not None and state.barred == version

    other = session_of(await browser.login())
    assert await held() == {kept, other}
    await happens("account.updated", 2)
    await happens("account.password_changed", 3, password_sealed="x", kept_session=str(kept))
    await until(lambda: barred(3), 30, "the change of the password")
    assert await held() == {kept}
    await happens("account.disabled", 4)
    await until(lambda: barred(4), 30, "the account disabled")
    assert await held() == set()
    # The table of accounts knows nothing of these events: it is the first version that a login sees, which is too old.
    status, code = await browser.ask("POST", "/auth/login", body=browser._who)
    assert (status, code) == OVER
    for version, kind in ((5, "account.role_changed"), (6, "account.erased")):
        await happens(kind, version)
        await until(lambda version=version: barred(version), 30, kind)  # type: ignore[misc]


async def test_without_kafka_a_login_is_refused_at_once(installation: System, stack: Stack) -> None:
    browser = await started(installation)
    tokens = await browser.register()
    await stack.stop("kafka")
    try:

        async def refused() -> bool:
            started_at = time.monotonic()
            status, code = await browser.ask("POST", "/auth/login", body=browser._who)
            return (status, code) == (503, "BROKER_AWAY") and time.monotonic() - started_at < 1.0

        await until(refused, 30, "logins are refused")
        assert await browser.takes(tokens) == {200}
    finally:
        await stack.start("kafka")

    async def back() -> bool:
        return (await browser.ask("POST", "/auth/login", body=browser._who))[0] == 200

    await until(back, 60, "logins are taken")
