"""API keys on real servers, through fronts of several processes and a worker."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.access import SYSTEM, Role
from domain.accounts import ChangeRole
from security.fields import Sealer
from streams import identity
from streams.publish import Order
from tests.flows.clients import PASSWORD, PROMISED_S, Browser, told_to_fronts
from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRONG = (401, "API_KEY_INVALID")
NAME = "the machine that deploys"


class Machines:
    """The keys of somebody who has registered, used over connections of their own, so that all processes are met."""

    def __init__(self, browser: Browser, tokens: Any) -> None:
        self.browser = browser
        self.tokens = tokens
        self.account = UUID(tokens["user"]["id"])

    @property
    def token(self) -> str:
        return str(self.tokens["access_token"])

    async def key(self, *scopes: str, **more: Any) -> Any:
        body = {"name": NAME, "scopes": scopes or ("read",), **more}
        status, made = await self.browser.ask("POST", "/api-keys", self.token, body)
        assert status == 201, made
        return made

    async def revoke(self, made: Any) -> None:
        assert await self.browser.ask("DELETE", f"/api-keys/{made['id']}", self.token) == (204, None)

    async def answers(self, made: Any) -> set[int]:
        """How the processes of the front answer to a key."""
        return await self.browser.takes({"access_token": made["key"]})

    async def refused_everywhere(self, made: Any, since: float, promised_s: float = PROMISED_S) -> None:
        """In time by every process."""
        await self.browser.refused_everywhere({"access_token": made["key"]}, since, promised_s)


async def machines(url: str) -> Machines:
    browser = Browser(url)
    return Machines(browser, await browser.register())


async def changed_role(served: System, account: UUID, role: Role) -> None:
    operation = identity.new_operation()
    order = Order(
        noun="accounts", type="change_role", aggregate_id=account, operation=operation, actor=SYSTEM,
        data=msgspec.json.encode(ChangeRole(role)), fingerprint=operation.hex,
    )  # fmt: skip
    await served.submit(order, wait=30)


async def test_made_used_and_revoked_in_every_process(served: System) -> None:
    mine = await machines(served.url)
    one, other = await mine.key("read", "write"), await mine.key()
    status, note = await mine.browser.ask("POST", "/resources", one["key"], {"kind": "note", "title": "of a machine"})
    assert (status, note["owner_id"]) == (201, str(mine.account))
    assert await mine.answers(one) == await mine.answers(other) == {200}

    async def noted() -> bool:
        _, listed = await mine.browser.ask("GET", "/api-keys", mine.token)
        assert [(each["id"], each["name"]) for each in listed] == [(other["id"], NAME), (one["id"], NAME)]
        return all(each["last_used_at"] is not None for each in listed)

    await until(noted, 30, "both were used")
    await mine.revoke(one)
    await mine.refused_everywhere(one, time.monotonic())
    assert await mine.browser.ask("GET", "/users/me", one["key"]) == WRONG
    assert await mine.answers(other) == {200}
    await served.until_published()
    applied = await served.events_of(mine.account, "events.api_keys")
    assert [event["type"] for event in applied] == ["api_key.created", "api_key.created", "api_key.revoked"]
    assert {event["source"] for event in applied} == {"/yeoul/api_keys"}
    # Word of one may be lost where Redis stands still for a moment, not of each.
    revoked = {one["id"]}
    for _ in range(3):
        made = await mine.key()
        await mine.revoke(made)
        revoked.add(made["id"])
    assert await told_to_fronts(served) & revoked


async def test_a_disabled_account_has_no_key_and_gets_none_back(served: System) -> None:
    mine = await machines(served.url)
    admin = await served.token("admin@example.org", Role.ADMIN)
    made = await mine.key()
    assert await mine.answers(made) == {200}
    path = f"/users/{mine.account}/status"
    assert (await mine.browser.ask("PUT", path, admin, {"status": "disabled"}))[0] == 200
    await mine.refused_everywhere(made, time.monotonic(), 2 * PROMISED_S)  # the event goes first, then the word
    assert (await mine.browser.ask("PUT", path, admin, {"status": "active"}))[0] == 200
    assert await mine.answers(made) == {401}
    mine.tokens = await mine.browser.login()
    assert await mine.browser.ask("GET", "/api-keys", mine.token) == (200, [])
    assert await mine.answers(await mine.key()) == {200}


async def test_less_of_a_role_ends_the_keys_that_have_more(served: System) -> None:
    mine = await machines(served.url)
    await changed_role(served, mine.account, Role.ADMIN)
    mine.tokens = await mine.browser.login()
    admin, plain = await mine.key("read", "admin"), await mine.key("read", "write")
    assert await mine.answers(admin) == await mine.answers(plain) == {200}
    assert (await mine.browser.ask("GET", "/users", admin["key"]))[0] == 200
    # An installation keeps one active admin.
    await served.token("another@example.org", Role.ADMIN)
    await changed_role(served, mine.account, Role.USER)
    await mine.refused_everywhere(admin, time.monotonic(), 2 * PROMISED_S)
    assert await mine.answers(plain) == {200}


async def test_another_password_ends_keys_only_if_asked(served: System) -> None:
    mine = await machines(served.url)
    made = await mine.key()
    body: dict[str, Any] = {"current_password": PASSWORD, "new_password": "another of these"}
    assert (await mine.browser.ask("PUT", "/users/me/password", mine.token, body))[0] == 204

    async def barred() -> bool:
        state = await served.stores.sessions.get(mine.account)
        return state is not None and state.barred == 2

    await until(barred, 30, "the change of the password")
    assert await mine.answers(made) == {200}
    body = {"current_password": "another of these", "new_password": "a third of these", "revoke_api_keys": True}
    assert (await mine.browser.ask("PUT", "/users/me/password", mine.token, body))[0] == 204
    await mine.refused_everywhere(made, time.monotonic(), 2 * PROMISED_S)


async def test_an_erasure_ends_every_key_and_its_name_can_be_read_nowhere(served: System) -> None:
    mine = await machines(served.url)
    made = await mine.key()
    stores = served.stores
    held, key = await stores.api_keys.get(mine.account), await stores.accounts.key(mine.account)
    assert held is not None
    assert key is not None
    sealer = Sealer(*served.settings.sealing_keys)
    assert sealer.open(key, mine.account, "api_key", held.keys.held[0].name_sealed) == NAME
    whole = await mine.browser.export(mine.token)
    assert [each["name"] for each in whole["api_keys"]] == [NAME]
    assert [(each["type"], each["name"]) for each in whole["api_key_history"]] == [("api_key.created", NAME)]
    assert (await mine.browser.ask("DELETE", "/users/me", mine.token, {"password": PASSWORD}))[0] == 204
    await mine.refused_everywhere(made, time.monotonic(), 2 * PROMISED_S)
    assert await stores.accounts.key(mine.account) is None
    rows = await stores.database.fetch("SELECT event FROM journal WHERE aggregate_id = $1", mine.account)
    assert rows
    assert not any(NAME in row["event"] for row in rows)


async def test_no_key_rests_anywhere(served: System) -> None:
    mine = await machines(served.url)
    made = await mine.key()
    assert await mine.answers(made) == {200}
    wrong = made["key"][:-1] + ("a" if made["key"][-1] != "a" else "b")
    assert await mine.browser.ask("GET", "/resources", wrong) == WRONG
    await mine.revoke(made)
    await served.until_published()
    texts = [path.read_text() for path in sorted(served._folder.glob("*.log"))]
    for table in ("api_keys", "journal", "operations"):
        rows = await served.stores.database.fetch(f"SELECT to_json(t)::text FROM {table} t")
        assert rows
        texts += [row[0] for row in rows]
    texts += [str(event) for event in (await served.events("events.api_keys"))[0]]
    assert [text for text in texts if made["key"][10:60] in text] == []


async def test_an_expiry_comes_by_itself(served: System) -> None:
    mine = await machines(served.url)
    for lasts in (8, 40):
        moment = int(time.time())
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment + lasts))
        made = await mine.key(expires_at=expires)
        answers = await mine.answers(made)
        if time.time() < moment + lasts - 1:
            break  # else it may have been over before all had answered: then one that lasts longer
    assert answers == {200}

    async def over() -> bool:
        return await mine.answers(made) == {401}

    await until(over, 60, "the key has expired")
    assert time.time() >= moment + lasts - 1
    assert await mine.browser.ask("GET", "/api-keys", mine.token) == (200, [])
