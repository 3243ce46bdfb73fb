"""API keys over HTTP: made, shown once, presented, listed, ended; and what they may not do."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from config.shields import Limit
from domain.access import Role, Scope
from domain.accounts import AccountStatus
from security.api_keys import ApiKey
from stores import StoresAway
from tests.web.conftest import Client, ask, registered
from tests.web.fakes import SETTINGS, Fakes
from web import keyring
from web.app import create
from web.permissions import signed_in
from web.routes import API, V1, V2

U = "/api/v1"
NEW = {"email": "han@example.org", "password": "rapids of a river"}
NOTE = {"kind": "note", "title": "a note"}


class Person:
    """Somebody who has registered, and what it asks."""

    def __init__(self, client: Client, fakes: Fakes, data: dict[str, Any]) -> None:
        self.client = client
        self.fakes = fakes
        self.id = UUID(data["user"]["id"])
        self.token = data["access_token"]

    async def ask(self, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> Any:
        """Status, data (or code), and headers."""
        headers |= {"Authorization": f"Bearer {token or self.token}"}
        return await ask(self.client, method, U + path, body, **headers)

    async def key(self, *scopes: str, **more: Any) -> Any:
        status, made, _ = await self.ask("POST", "/api-keys", body={"name": "a machine", "scopes": scopes, **more})
        assert status == 201, made
        return made

    def change(self, **more: Any) -> None:
        """The account as it is from now on."""
        states = self.fakes.stores.accounts.states
        states[self.id] = msgspec.structs.replace(states[self.id], **more)

    def become_admin(self) -> None:
        self.change(role=Role.ADMIN)
        self.token = self.fakes.tokens.issue(self.id, Role.ADMIN, time.time())


@pytest.fixture
async def me(client: Client, fakes: Fakes) -> Person:
    return Person(client, fakes, await registered(client))


WRONG = (401, "API_KEY_INVALID")


async def test_a_key_is_shown_once_and_acts_for_its_account(me: Person, fakes: Fakes) -> None:
    status, made, headers = await me.ask("POST", "/api-keys", body={"name": "배포 봇", "scopes": ["write", "read"]})
    assert (status, headers["Cache-Control"]) == (201, "no-store")
    assert made.keys() == {"id", "name", "scopes", "created_at", "last_used_at", "expires_at", "key"}
    assert (made["name"], made["scopes"], made["expires_at"], made["last_used_at"]) == (
        "배포 봇", ["read", "write"], None, None,
    )  # fmt: skip
    status, note, _ = await me.ask("POST", "/resources", made["key"], NOTE)
    assert (status, note["owner_id"]) == (201, str(me.id))
    assert (await me.ask("GET", f"/resources/{note['id']}", made["key"]))[0] == 200
    assert (await me.ask("GET", f"/resources/{note['id']}"))[0] == 200
    status, listed, headers = await me.ask("GET", "/api-keys")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    (one,) = listed
    assert one.pop("last_used_at") is not None
    assert one == {name: value for name, value in made.items() if name not in ("key", "last_used_at")}


async def test_only_hashes_and_sealed_names_leave_the_front(
    me: Person, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    made = await me.key("read")
    await me.ask("GET", "/resources", made["key"])
    await me.ask("GET", "/resources", made["key"][:-1] + "0")
    parsed = ApiKey.read(made["key"])
    assert parsed is not None
    told = [
        *(order.data + order.fingerprint.encode() for order in fakes.commands.submitted),
        msgspec.json.encode(fakes.stores.api_keys.states[me.id]),
        caplog.text.encode(),
    ]
    secrets = [made["key"][6:60].encode(), parsed.secret.hex().encode(), b"a machine"]
    assert [secret for secret in secrets for text in told if secret in text] == []
    assert fakes.stores.api_keys.states[me.id].held[0].hash == parsed.hash("local")


async def test_scopes_are_what_a_key_may_do(me: Person) -> None:
    _, note, _ = await me.ask("POST", "/resources", body=NOTE)
    path = f"/resources/{note['id']}"
    reads, writes = (await me.key("read"))["key"], (await me.key("write"))["key"]
    for asked in ("/resources", path, f"{path}/history", "/users/me", "/analytics"):
        assert (await me.ask("GET", asked, reads))[0] == 200, asked
        assert (await me.ask("GET", asked, writes))[:2] == (403, "FORBIDDEN"), asked
    for method, asked, body in (
        ("POST", "/resources", NOTE), ("PUT", path, NOTE), ("DELETE", path, None), ("POST", "/resources/batch", None),
        ("PATCH", "/users/me", {"name": "b"}),
    ):  # fmt: skip
        assert (await me.ask(method, asked, reads, body))[:2] == (403, "FORBIDDEN"), asked
    for method, key, has in (("GET", writes, "write"), ("POST", reads, "read")):
        async with me.client.request(method, f"{U}/resources", headers={"Authorization": f"Bearer {key}"}) as answer:
            (detail,) = (await answer.json())["error"]["details"]
        assert detail["field"] == "Authorization"
        assert f"with only these scopes: {has};" in detail["message"]
    status, operation, _ = await me.ask("POST", "/resources", writes, NOTE, Prefer="respond-async")
    assert status == 202
    # What it has asked for, it may ask about.
    assert (await me.ask("GET", f"/operations/{operation['id']}", writes))[0] == 200
    assert (await me.ask("DELETE", path, writes))[0] == 204


async def test_a_key_of_an_admin_is_one_only_by_its_scope(me: Person) -> None:
    assert (await me.ask("POST", "/api-keys", body={"name": "a", "scopes": ["admin"]}))[:2] == (403, "FORBIDDEN")
    me.become_admin()
    user, admin = (await me.key("read", "write"))["key"], (await me.key("read", "admin"))["key"]
    mina = await registered(me.client, "mina")
    _, note, _ = await me.ask("POST", "/resources", mina["access_token"], NOTE)
    path = f"/resources/{note['id']}"
    assert (await me.ask("GET", path, admin))[0] == 200
    assert (await me.ask("GET", "/users", admin))[0] == 200
    assert (await me.ask("PUT", path, admin, NOTE))[:2] == (403, "FORBIDDEN")  # it may not write
    # The same account without the scope is anybody: what is private of others is not there.
    assert (await me.ask("GET", path, user))[:2] == (404, "NOT_FOUND")
    assert (await me.ask("PUT", path, user, NOTE))[:2] == (404, "NOT_FOUND")
    assert (await me.ask("GET", "/users", user))[:2] == (403, "FORBIDDEN")


IN_PERSON = [
    ("POST", "/auth/logout"), ("POST", "/auth/logout-all"), ("GET", "/sessions"), ("DELETE", "/sessions/{id}"),
    ("GET", "/api-keys"), ("POST", "/api-keys"), ("DELETE", "/api-keys/{id}"), ("DELETE", "/users/me"),
    ("PUT", "/users/me/password"), ("GET", "/users/me/export"), ("DELETE", "/users/{id}"), ("PUT", "/users/{id}/role"),
    ("GET", "/users/me/second-factor"), ("POST", "/users/me/second-factor"), ("DELETE", "/users/me/second-factor"),
    ("POST", "/users/me/second-factor/confirm"), ("POST", "/users/me/second-factor/recovery-codes"),
    ("DELETE", "/users/{id}/second-factor"), ("POST", "/auth/resend-verification"), ("PUT", "/users/me/email"),
]  # fmt: skip


@pytest.mark.parametrize("version", [V1, V2])
async def test_what_no_key_may_do_whatever_its_scopes(me: Person, version: str) -> None:
    me.become_admin()
    key = (await me.key(*Scope))["key"]
    headers = {"Authorization": f"Bearer {key}"}
    before = len(me.fakes.commands.submitted)
    for method, path in IN_PERSON:
        answer = await me.client.request(method, version + path.replace("{id}", str(me.id)), headers=headers)
        shown = await answer.json()
        assert (answer.status, shown.get("error", shown)["code"]) == (403, "SESSION_REQUIRED"), path
        answer = await me.client.request(method, version + path.replace("{id}", str(me.id)))
        assert answer.status == 401, path
    assert len(me.fakes.commands.submitted) == before
    # Every other endpoint that looks at tokens takes keys: whoever adds one decides.
    others = {(method, path) for method, path, guard, _ in API if guard is not None} - set(IN_PERSON)
    assert not [path for _, path in others if path.startswith(("/auth", "/sessions", "/api-keys"))]
    assert {path for method, path, guard, _ in API if guard is signed_in} == {"/users/me", "/operations/{id}"}


async def test_a_revoked_key_is_over(me: Person) -> None:
    one, other = await me.key("read"), await me.key("read")
    assert (await me.ask("GET", "/resources", one["key"]))[0] == 200
    assert (await me.ask("DELETE", f"/api-keys/{one['id']}"))[0] == 204
    status, code, headers = await me.ask("GET", "/resources", one["key"])
    assert (status, code) == WRONG
    assert "invalid_token" in headers["WWW-Authenticate"]
    assert (await me.ask("GET", "/resources", other["key"]))[0] == 200
    assert (await me.ask("DELETE", f"/api-keys/{one['id']}"))[:2] == (404, "NOT_FOUND")
    assert [each["id"] for each in (await me.ask("GET", "/api-keys"))[1]] == [other["id"]]


async def test_the_word_of_another_process_counts_at_once(me: Person) -> None:
    made = await me.key("read")
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200
    me.fakes.stores.revoked.add(UUID(made["id"]))
    # Also if PostgreSQL that is asked then is a moment behind.
    for _ in range(2):
        assert (await me.ask("GET", "/resources", made["key"]))[:2] == WRONG


async def test_keys_of_others_are_not_there(me: Person, client: Client, fakes: Fakes) -> None:
    made = await me.key("read")
    thief = Person(client, fakes, await registered(client, "mina"))
    assert (await thief.ask("DELETE", f"/api-keys/{made['id']}"))[:2] == (404, "NOT_FOUND")
    assert (await thief.ask("GET", "/api-keys"))[1] == []
    # A right secret with another account in it is no key.
    parsed = ApiKey.read(made["key"])
    assert parsed is not None
    assert (await thief.ask("GET", "/resources", ApiKey(thief.id, parsed.secret).text))[:2] == WRONG


@pytest.mark.parametrize("status", [AccountStatus.DISABLED, AccountStatus.ERASED])
async def test_an_account_that_may_not_be_used_has_no_key(me: Person, status: AccountStatus) -> None:
    made = await me.key("read")
    me.change(status=status)
    assert (await me.ask("GET", "/resources", made["key"]))[:2] == WRONG
    assert (await me.ask("POST", "/api-keys", body={"name": "a", "scopes": ["read"]}))[0] in (403, 410)


async def test_a_key_does_no_more_than_the_role_that_its_account_has_now(me: Person) -> None:
    me.become_admin()
    mixed, pure = (await me.key("read", "admin"))["key"], (await me.key("admin"))["key"]
    me.change(role=Role.USER)
    assert (await me.ask("GET", "/users", mixed))[:2] == (403, "FORBIDDEN")
    assert (await me.ask("GET", "/resources", mixed))[0] == 200
    assert (await me.ask("GET", "/users", pure))[0] == 403


async def test_an_expired_key_is_over(me: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    expires = datetime.now(UTC) + timedelta(minutes=5)
    made = await me.key("read", expires_at=expires.isoformat())
    assert datetime.fromisoformat(made["expires_at"]) == expires
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200
    later = time.time() + 301
    monkeypatch.setattr("web.middlewares.time", lambda: later)
    monkeypatch.setattr("web.keyring.time.time", lambda: later)
    assert (await me.ask("GET", "/resources", made["key"]))[:2] == WRONG


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "scopes"}),
        (
            {"name": "", "scopes": [], "expires_at": "soon", "owner_id": "x"},
            {"name", "scopes", "expires_at", "owner_id"},
        ),
        ({"name": "a" * 101, "scopes": ["read", "root"]}, {"name", "scopes[1]"}),
        ({"name": "a", "scopes": "read", "expires_at": 5}, {"scopes", "expires_at"}),
        ({"name": "a", "scopes": ["read"], "expires_at": "2026-12-31T00:00:00"}, {"expires_at"}),
        ({"name": "a", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, {"expires_at"}),
        ({"name": "a", "scopes": ["read"], "expires_at": "9999-01-01T00:00:00Z"}, {"expires_at"}),
        ({"name": "a", "scopes": ["read"], "expires_at": "2026-02-30T00:00:00Z"}, {"expires_at"}),
        ({"name": 1, "scopes": [1], "expires_at": []}, {"name", "scopes[0]", "expires_at"}),
    ],
)
async def test_what_is_wrong_is_named_at_once(me: Person, body: Any, fields: set[str]) -> None:
    headers = {"Authorization": f"Bearer {me.token}"}
    answer = await me.client.post(f"{U}/api-keys", json=body, headers=headers)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "VALIDATION_ERROR")
    assert {detail["field"] for detail in error["details"]} == fields
    assert me.fakes.stores.api_keys.states == {}


async def test_a_repeat_shows_all_but_the_key(me: Person) -> None:
    body, once = {"name": "a", "scopes": ["read"]}, {"Idempotency-Key": "once"}
    _, made, _ = await me.ask("POST", "/api-keys", body=body, **once)
    status, again, headers = await me.ask("POST", "/api-keys", body=body, **once)
    assert (status, headers["Idempotency-Replayed"], again) == (201, "true", {**made, "key": None})
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200
    assert (await me.ask("POST", "/api-keys", body={**body, "name": "b"}, **once))[:2] == (422, "KEY_REUSED")
    assert len((await me.ask("GET", "/api-keys"))[1]) == 1
    await me.ask("DELETE", f"/api-keys/{made['id']}")
    assert (await me.ask("POST", "/api-keys", body=body, **once))[:2] == (404, "NOT_FOUND")


async def test_what_nobody_could_use_is_not_answered_as_made(me: Person, fakes: Fakes) -> None:
    body = {"name": "a", "scopes": ["read"]}
    status, made, _ = await me.ask("POST", "/api-keys", body=body, Prefer="respond-async")
    assert (status, len(made["key"])) == (201, 77)
    fakes.commands.slow = True
    status, code, headers = await me.ask("POST", "/api-keys", body=body)
    assert (status, code, headers["Retry-After"]) == (503, "STORES_AWAY", "1")


async def test_an_account_has_so_many(me: Person) -> None:
    for _ in range(50):
        await me.key("read")
    refused = await me.ask("POST", "/api-keys", body={"name": "a", "scopes": ["read"]})
    assert refused[:2] == (409, "TOO_MANY_API_KEYS")


async def test_a_hot_key_asks_no_database(me: Person, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await me.key("read")
    answers = await asyncio.gather(*(me.ask("GET", "/resources", made["key"]) for _ in range(20)))
    assert {answer[0] for answer in answers} == {200}
    assert (fakes.stores.api_keys.looked, len(fakes.stores.api_keys.uses)) == (1, 1)
    fakes.stores.api_keys.raises = StoresAway("it was stopped")
    monkeypatch.setattr(keyring, "FRESH_S", 0.0)
    monkeypatch.setattr(keyring, "AGAIN_S", 0.0)
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200  # what is remembered goes on
    assert fakes.stores.api_keys.looked > 1
    later = time.time() + keyring.TRUSTED_S
    monkeypatch.setattr("web.middlewares.time", lambda: later)
    assert (await me.ask("GET", "/resources", made["key"]))[:2] == (503, "STORES_AWAY")  # and not for ever


async def test_a_key_that_is_used_after_a_minute_is_looked_up_beside_the_request(
    me: Person, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await me.key("read")
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200
    fakes.stores.api_keys.states.clear()  # as in another installation after a restore: nobody told of an end
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200
    later = time.time() + keyring.FRESH_S
    monkeypatch.setattr("web.middlewares.time", lambda: later)
    assert (await me.ask("GET", "/resources", made["key"]))[0] == 200
    assert (await me.ask("GET", "/resources", made["key"]))[:2] == WRONG


@pytest.fixture
async def limited() -> AsyncIterator[Person]:
    settings = msgspec.structs.replace(SETTINGS, limit_api_key_address=Limit(3, 60), limit_read_user=Limit(5, 60))
    fakes = Fakes(settings)
    async with TestClient(TestServer(create(settings, fakes.open))) as client:
        data = await registered(client)
        yield Person(client, fakes, data)


async def test_wrong_keys_are_limited_and_right_ones_are_not(limited: Person) -> None:
    keys = [(await limited.key("read"))["key"] for _ in range(5)]
    wrong = ApiKey.new(limited.id).text
    assert (await limited.ask("GET", "/users/me", keys[0]))[0] == 200
    for text in (wrong, "yeoul_", ApiKey.new(UUID(int=5)).text):
        assert (await limited.ask("GET", "/users/me", text))[:2] == WRONG
    looked = limited.fakes.stores.api_keys.looked
    status, code, headers = await limited.ask("GET", "/users/me", wrong)
    assert (status, code) == (429, "TOO_MANY_REQUESTS")
    assert 0 < int(headers["Retry-After"]) <= 120
    assert headers["RateLimit-Policy"].startswith('"api-key-address";q=3;w=60')
    assert limited.fakes.stores.api_keys.looked == looked
    assert (await limited.ask("GET", "/users/me", keys[0]))[0] == 200  # it is known here


async def test_keys_of_an_account_share_its_limit(limited: Person) -> None:
    keys = [(await limited.key("read"))["key"] for _ in range(2)]
    statuses = [(await limited.ask("GET", "/users/me", token))[0] for token in (*keys, *keys, "", keys[0], "")]
    assert statuses == [200] * 5 + [429] * 2


async def test_another_password_ends_keys_only_if_asked(me: Person, fakes: Fakes) -> None:
    body: dict[str, Any] = {"current_password": NEW["password"], "new_password": "another of these"}
    assert (await me.ask("PUT", "/users/me/password", body=body))[0] == 204
    assert b'"end_api_keys":false' in fakes.commands.submitted[-1].data
    body = {"current_password": "another of these", "new_password": "a third of these", "revoke_api_keys": True}
    assert (await me.ask("PUT", "/users/me/password", body=body))[0] == 204
    assert b'"end_api_keys":true' in fakes.commands.submitted[-1].data
    assert (await me.ask("PUT", "/users/me/password", body={**body, "revoke_api_keys": "yes"}))[0] == 400


async def test_an_export_has_the_keys(me: Person) -> None:
    made = await me.key("read")
    headers = {"Authorization": f"Bearer {me.token}"}
    whole = await (await me.client.get(f"{U}/users/me/export", headers=headers)).json()
    assert whole["api_keys"] == [{name: value for name, value in made.items() if name != "key"}]
    assert whole["api_key_history"] == []
