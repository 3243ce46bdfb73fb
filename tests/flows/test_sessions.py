"""Sessions on real servers, through fronts of several processes and a worker."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

import topics
from domain.access import SYSTEM, Role
from domain.accounts import ChangeRole
from security.fields import Sealer
from security.refresh import RefreshToken
from streams import identity
from streams.envelope import STRUCTURED_HEADERS, Event, sequence, write
from streams.publish import Order
from tests.flows.clients import DEVICE, PASSWORD, PROMISED_S, Browser, told_to_fronts
from tests.flows.harness import System, until
from web.accounts import NoToken

pytestmark = pytest.mark.asyncio(loop_scope="session")


def session_of(tokens: Any) -> UUID:
    token = RefreshToken.read(tokens["refresh_token"])
    assert token is not None
    return token.session


OVER = (401, "SESSION_ENDED")


async def test_tokens_follow_each_other_and_one_used_twice_ends_the_session(served: System) -> None:
    browser = Browser(served.url)
    first, other = await browser.register(), await browser.login()
    tokens = first
    for _ in range(3):
        status, tokens = await browser.refresh(tokens["refresh_token"])
        assert (status, await browser.takes(tokens)) == (200, {200})
    assert await browser.refresh(first["refresh_token"]) == OVER
    used_at = time.monotonic()
    assert await browser.refresh(tokens["refresh_token"]) == OVER
    await browser.refused_everywhere(tokens, used_at)
    assert await browser.takes(other) == {200}
    # Two at once are decided in order: one goes on, and the other one has used a used token.
    answers = await asyncio.gather(*(browser.refresh(other["refresh_token"]) for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 401]
    (winner,) = [data for status, data in answers if status == 200]
    assert await browser.refresh(winner["refresh_token"]) == OVER
    await served.until_published()
    applied = await served.events_of(first["user"]["id"], "events.sessions")
    assert [event["type"] for event in applied] == [
        "session.started", "session.started", *["session.refreshed"] * 3, "session.reused", "session.revoked",
        "session.refreshed", "session.reused", "session.revoked",
    ]  # fmt: skip
    assert {event["source"] for event in applied} == {"/yeoul/sessions"}


async def test_a_lost_answer_is_asked_for_again(served: System) -> None:
    browser = Browser(served.url)
    tokens = await browser.register()
    key = {"Idempotency-Key": "once"}
    (_, one), (status, two) = [await browser.refresh(tokens["refresh_token"], **key) for _ in range(2)]
    assert (status, one["refresh_token"]) == (200, two["refresh_token"])
    assert (await browser.refresh(two["refresh_token"], **key))[0] == 200
    assert await browser.refresh(tokens["refresh_token"], **key) == OVER


async def test_no_refresh_token_rests_anywhere(served: System) -> None:
    browser = Browser(served.url)
    tokens = await browser.register()
    secrets = [tokens["refresh_token"]]
    _, tokens = await browser.refresh(tokens["refresh_token"])
    secrets.append(tokens["refresh_token"])
    assert await browser.refresh(secrets[0]) == OVER
    await served.until_published()
    texts = [path.read_text() for path in sorted(served._folder.glob("*.log"))]
    for table in ("sessions", "journal", "operations"):
        rows = await served.stores.database.fetch(f"SELECT to_json(t)::text FROM {table} t")
        assert rows
        texts += [row[0] for row in rows]
    texts += [str(event) for event in (await served.events("events.sessions"))[0]]
    assert [text for text in texts for secret in secrets if secret[40:] in text] == []


async def test_logout_counts_in_every_process_in_time(served: System) -> None:
    browser = Browser(served.url)
    tokens = [await browser.register(), *[await browser.login() for _ in range(4)]]
    assert await browser.takes(tokens[0]) == {200}
    assert await browser.ask("POST", "/auth/logout", tokens[0]["access_token"]) == (204, None)
    await browser.refused_everywhere(tokens[0], time.monotonic())
    id = session_of(tokens[1])
    assert await browser.ask("DELETE", f"/sessions/{id}", tokens[2]["access_token"]) == (204, None)
    await browser.refused_everywhere(tokens[1], time.monotonic())
    status, shown = await browser.ask("GET", "/sessions", tokens[2]["access_token"])
    assert (status, len(shown), [one["current"] for one in shown].count(True)) == (200, 3, 1)
    assert {one["address"] for one in shown} == {"127.0.0.1"}
    assert await browser.ask("POST", "/auth/logout-all", tokens[2]["access_token"]) == (204, None)
    await browser.refused_everywhere(tokens[3], time.monotonic())
    # Word of one may be lost where Redis stands still for a moment, not of all that ended.
    assert await told_to_fronts(served) & {str(session_of(each)) for each in tokens}
    for each in tokens:
        assert await browser.refresh(each["refresh_token"]) == OVER
    assert await browser.takes(await browser.login()) == {200}


async def test_what_happens_to_the_account_ends_its_sessions(served: System) -> None:
    browser = Browser(served.url)
    tokens = [await browser.register(), await browser.login()]
    account = UUID(tokens[0]["user"]["id"])
    operation = identity.new_operation()
    order = Order(
        noun="accounts", type="change_role", aggregate_id=account, operation=operation, actor=SYSTEM,
        data=msgspec.json.encode(ChangeRole(Role.ADMIN)), fingerprint=operation.hex,
    )  # fmt: skip
    await served.submit(order, wait=30)
    done_at = time.monotonic()
    for each in tokens:
        await browser.refused_everywhere(each, done_at, 2 * PROMISED_S)  # the event goes first, then the word
        assert await browser.refresh(each["refresh_token"]) == OVER
    later = await browser.login()
    assert await browser.takes(later) == {200}


async def test_another_password_ends_all_sessions_but_the_one_that_asks(served: System) -> None:
    browser = Browser(served.url)
    kept, other = await browser.register(), await browser.login()
    body = {"current_password": PASSWORD, "new_password": "another of these"}
    assert (await browser.ask("PUT", "/users/me/password", kept["access_token"], body))[0] == 204
    await browser.refused_everywhere(other, time.monotonic(), 2 * PROMISED_S)
    assert await browser.refresh(other["refresh_token"]) == OVER
    assert await browser.takes(kept) == {200}
    _, listed = await browser.ask("GET", "/sessions", kept["access_token"])
    assert [(one["id"], one["current"]) for one in listed] == [(str(session_of(kept)), True)]
    status, following = await browser.refresh(kept["refresh_token"])
    assert (status, session_of(following), await browser.takes(following)) == (200, session_of(kept), {200})


async def test_a_disabled_account_has_no_session_until_it_is_enabled_and_logs_in(served: System) -> None:
    browser = Browser(served.url)
    admin = await served.token("admin@example.org", Role.ADMIN)
    tokens = await browser.register()
    path = f"/users/{tokens['user']['id']}/status"
    assert (await browser.ask("PUT", path, admin, {"status": "disabled"}))[0] == 200
    await browser.refused_everywhere(tokens, time.monotonic(), 2 * PROMISED_S)
    assert await browser.refresh(tokens["refresh_token"]) == OVER
    assert await browser.ask("POST", "/auth/login", body=browser.who) == (401, "INVALID_CREDENTIALS")
    email = browser.who["email"]
    with pytest.raises(NoToken, match=f"the account of {re.escape(email)} is disabled"):
        await served.token(email)
    assert (await browser.ask("PUT", path, admin, {"status": "active"}))[0] == 200
    assert await browser.takes(tokens) == {401}
    assert await browser.takes(await browser.login()) == {200}


async def test_an_erasure_ends_every_session_and_nothing_of_them_can_be_read(served: System) -> None:
    browser = Browser(served.url)
    first, other = await browser.register(), await browser.login()
    account, stores = UUID(first["user"]["id"]), served.stores
    whole = await browser.export(first["access_token"])
    assert {one["id"] for one in whole["sessions"]} == {str(session_of(first)), str(session_of(other))}
    for one in (*whole["sessions"], *whole["session_history"]):
        assert (one["device"], one["address"]) == (DEVICE, "127.0.0.1")
    assert [event["type"] for event in whole["session_history"]] == ["session.started"] * 2
    assert [event["type"] for event in whole["account_history"]] == ["account.created"]
    held, key = await stores.sessions.get(account), await stores.accounts.key(account)
    assert held is not None
    assert key is not None
    sealer = Sealer(*served.settings.sealing_keys)
    opened = {sealer.open(key, account, "device", one.device_sealed) for one in held.held}
    assert opened == {DEVICE}  # by this key, and so by nothing else

    assert (await browser.ask("DELETE", "/users/me", first["access_token"], {"password": PASSWORD}))[0] == 204
    erased_at = time.monotonic()
    # What is left of the sessions is sealed by a key that is nowhere any more.
    assert await stores.accounts.key(account) is None
    for each in (first, other):
        await browser.refused_everywhere(each, erased_at, 2 * PROMISED_S)
        assert await browser.ask("GET", "/users/me", each["access_token"]) == OVER
        assert await browser.ask("GET", "/sessions", each["access_token"]) == OVER
        assert await browser.refresh(each["refresh_token"]) == OVER
    assert await browser.ask("POST", "/auth/login", body=browser.who) == (401, "INVALID_CREDENTIALS")
    state = await stores.sessions.get(account)
    assert state is not None
    assert (state.held, {one.id for one in state.ended}) == ((), {session_of(first), session_of(other)})
    assert await stores.database.fetch("SELECT account_id FROM account_keys WHERE wrapped = $1", key) == []
    rows = await stores.database.fetch("SELECT event FROM journal WHERE aggregate_id = $1", account)
    assert rows
    assert not any(DEVICE in row["event"] or "127.0.0.1" in row["event"] for row in rows)


async def test_events_of_accounts_by_their_names(installation: System) -> None:
    """As the owner of the accounts writes them: which of the sessions end, and that a repeat ends no newer one.

    What it writes is ahead of the owner's own events, so that its partition is of no use to another test.
    """
    browser = Browser(await installation.serve(processes=1))
    data = await browser.register()
    account, kept = UUID(data["user"]["id"]), session_of(data)
    await installation.until_published()
    (created,) = await installation.events_of(account, "events.accounts")
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
    status, code = await browser.ask("POST", "/auth/login", body=browser.who)
    assert (status, code) == OVER
    for version, kind in ((5, "account.role_changed"), (6, "account.erased")):
        await happens(kind, version)
        await until(lambda version=version: barred(version), 30, kind)  # type: ignore[misc]
