"""One's own account: read, update, another password, export, erase; and what a flood of passwords leaves of reads."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from domain.accounts import AccountDisabled, ChangePassword, UpdateAccount, evolve
from domain.aggregates import Occurrence
from domain.sentences import LANGUAGES
from security.passwords import Passwords
from stores.belongings import Told
from tests.web import conftest
from tests.web.conftest import ADMIN, OTHER, OWNER, Client, bearing, registered
from tests.web.fakes import SETTINGS, Fakes
from web import export, users
from web.app import create

NEW = {"email": "Han@Example.org", "password": "rapids of a river", "name": "한강", "phone": "+82 10 1234 5678"}
ME, PASSWORD, EXPORT = "/api/v1/users/me", "/api/v1/users/me/password", "/api/v1/users/me/export"

Me = dict[str, Any]


def test_mails_are_written_in_the_languages_that_messages_have() -> None:
    assert tuple(users.Language) == LANGUAGES


@pytest.fixture
async def me(client: Client) -> Me:
    """Somebody who has registered: what the account shows, and the headers by which it speaks."""
    data = await registered(client, **NEW)
    return {"user": data["user"], "headers": bearing(data)}


async def ask(client: Client, method: str, path: str, me: Me, body: Any = None, **headers: str) -> Any:
    """Status, data (or code), and headers."""
    return await conftest.ask(client, method, path, body, **me["headers"] | headers)


async def test_who_asks_sees_itself_opened(client: Client, me: Me) -> None:
    status, user, headers = await ask(client, "GET", ME, me)
    assert (status, user, headers["ETag"], headers["Cache-Control"]) == (200, me["user"], '"1"', "no-store")
    assert (user["email"], user["name"], user["phone"]) == (NEW["email"], NEW["name"], NEW["phone"])
    assert (await ask(client, "GET", ME, me, **{"If-None-Match": '"1"'}))[0] == 304
    assert (await ask(client, "GET", ME, {"headers": {}}))[:2] == (401, "TOKEN_MISSING")


async def test_a_token_of_nobody_finds_nobody(client: Client, bearer: Callable[..., dict[str, str]]) -> None:
    for account in (OWNER, OTHER, ADMIN):
        assert (await ask(client, "GET", ME, {"headers": bearer(account)}))[:2] == (404, "NOT_FOUND")


async def test_name_and_phone_are_changed_and_sealed(client: Client, fakes: Fakes, me: Me) -> None:
    status, user, headers = await ask(client, "PATCH", ME, me, {"name": "여울", "phone": None})
    assert (status, user["name"], user["phone"], user["email"]) == (200, "여울", None, NEW["email"])
    assert (user["version"], headers["ETag"]) == (2, '"2"')
    status, user, _ = await ask(client, "PATCH", ME, me, {"phone": "+1 555 0100"})
    assert (user["name"], user["phone"]) == ("여울", "+1 555 0100")
    order = fakes.commands.submitted[-1]
    assert b"555 0100" not in order.data
    command = msgspec.json.decode(order.data, type=UpdateAccount)
    wrapped = fakes.stores.accounts.keys[order.aggregate_id]
    assert fakes.sealer.open(wrapped, order.aggregate_id, "phone", str(command.phone_sealed)) == "+1 555 0100"
    assert (await ask(client, "PATCH", ME, me, {}))[1]["version"] == 3


async def test_a_change_of_what_was_changed_meanwhile_is_refused(client: Client, me: Me) -> None:
    assert (await ask(client, "PATCH", ME, me, {"name": "a"}, **{"If-Match": '"1"'}))[0] == 200
    assert (await ask(client, "PATCH", ME, me, {"name": "b"}, **{"If-Match": '"1"'}))[:2] == (412, "STALE_VERSION")
    body = {"current_password": NEW["password"], "new_password": "another of these"}
    assert (await ask(client, "PUT", PASSWORD, me, body, **{"If-Match": '"1"'}))[0] == 412
    assert (await ask(client, "DELETE", ME, me, {"password": NEW["password"]}, **{"If-Match": '"1"'}))[0] == 412


async def test_a_change_is_repeated_by_its_key_and_nobody_can_guess_at_it(client: Client, fakes: Fakes, me: Me) -> None:
    key = {"Idempotency-Key": "one"}
    first = await ask(client, "PATCH", ME, me, {"phone": "+82 2 000 0000"}, **key)
    again = await ask(client, "PATCH", ME, me, {"phone": "+82 2 000 0000"}, **key)
    assert (first[:2], again[2]["Idempotency-Replayed"]) == (again[:2], "true")
    assert (await ask(client, "PATCH", ME, me, {"phone": "+82 2 000 0001"}, **key))[:2] == (422, "KEY_REUSED")
    prints = {order.fingerprint for order in fakes.commands.submitted[-3:]}
    other = Fakes(msgspec.structs.replace(SETTINGS, index_key=b"x" * 32))
    async with TestClient(TestServer(create(other.settings, other.open))) as elsewhere:
        headers = bearing(await registered(elsewhere, **NEW), **key)
        await elsewhere.patch(ME, json={"phone": "+82 2 000 0000"}, headers=headers)
    # The same request, and another secret: another fingerprint. So it can't be tried without it.
    assert other.commands.submitted[-1].fingerprint not in prints


async def test_everything_that_is_wrong_is_named_at_once(client: Client, me: Me) -> None:
    headers = me["headers"] | {"If-Match": "x", "If-None-Match": "*", "Idempotency-Key": "ü"}
    answer = await client.patch(ME, json={"name": "x" * 101, "phone": "call me", "role": "admin"}, headers=headers)
    found = {detail["field"] for detail in (await answer.json())["error"]["details"]}
    assert found == {"If-Match", "If-None-Match", "Idempotency-Key", "name", "phone", "role"}
    answer = await client.put(PASSWORD, json={"new_password": "short"}, headers=me["headers"])
    found = {detail["field"] for detail in (await answer.json())["error"]["details"]}
    assert found == {"current_password", "new_password"}
    assert (await ask(client, "PATCH", ME, me, {"name": None}))[:2] == (400, "VALIDATION_ERROR")


async def test_a_password_is_changed_by_who_knows_the_present_one(client: Client, fakes: Fakes, me: Me) -> None:
    body = {"current_password": "a wrong guess", "new_password": "another of these"}
    assert (await ask(client, "PUT", PASSWORD, me, body))[:2] == (403, "WRONG_PASSWORD")
    status, data, headers = await ask(client, "PUT", PASSWORD, me, body | {"current_password": NEW["password"]})
    assert (status, data, headers["ETag"], headers["Cache-Control"]) == (204, None, '"2"', "no-store")
    command = msgspec.json.decode(fakes.commands.submitted[-1].data, type=ChangePassword)
    # The session that asks goes on.
    assert command.kept_session == fakes.tokens.verify(me["headers"]["Authorization"][7:], time.time()).session
    for password, status in ((NEW["password"], 401), (body["new_password"], 200)):
        answer = await client.post("/api/v1/auth/login", json={"email": NEW["email"], "password": password})
        assert answer.status == status
    plain = fakes.commands.submitted[-1]
    assert b"another" not in plain.data
    assert "another" not in plain.fingerprint


async def test_of_two_changes_of_one_password_the_second_is_asked_again(client: Client, fakes: Fakes, me: Me) -> None:
    bodies = [{"current_password": NEW["password"], "new_password": f"another number {n}"} for n in range(4)]
    answers = await asyncio.gather(*(ask(client, "PUT", PASSWORD, me, body) for body in bodies))
    assert sorted(answer[0] for answer in answers) == [204, 403, 403, 403]


async def test_an_account_is_erased_by_who_knows_its_password(client: Client, fakes: Fakes, me: Me) -> None:
    assert (await ask(client, "DELETE", ME, me, {"password": "a wrong guess"}))[:2] == (403, "WRONG_PASSWORD")
    assert (await client.delete(ME, headers=me["headers"])).status == 400
    key = {"Idempotency-Key": "farewell"}
    status, data, _ = await ask(client, "DELETE", ME, me, {"password": NEW["password"]}, **key)
    assert (status, data) == (204, None)
    status, _, headers = await ask(client, "DELETE", ME, me, {"password": NEW["password"]}, **key)
    assert (status, headers["Idempotency-Replayed"]) == (204, "true")
    for method, path, body in (
        ("GET", ME, None), ("GET", EXPORT, None), ("PATCH", ME, {"name": "x"}),
        ("PUT", PASSWORD, {"current_password": NEW["password"], "new_password": "another of these"}),
        ("DELETE", ME, {"password": NEW["password"]}),
    ):  # fmt: skip
        assert (await ask(client, method, path, me, body))[:2] == (410, "ACCOUNT_ERASED")
    answer = await client.post("/api/v1/auth/login", json={"email": NEW["email"], "password": NEW["password"]})
    assert answer.status == 401
    again = await client.post("/api/v1/auth/register", json=NEW)
    assert (again.status, (await again.json())["data"]["user"]["id"] == me["user"]["id"]) == (201, False)


async def test_nobody_logs_in_to_a_disabled_account(client: Client, fakes: Fakes, me: Me) -> None:
    id = UUID(me["user"]["id"])
    state = fakes.stores.accounts.states[id]
    fakes.stores.accounts.states[id] = evolve(state, AccountDisabled(), Occurrence(id, 2, state.updated_at))
    login = {"email": NEW["email"], "password": NEW["password"]}
    right = await client.post("/api/v1/auth/login", json=login)
    wrong = await client.post("/api/v1/auth/login", json=login | {"password": "a wrong guess"})
    assert (right.status, (await right.json())["error"]) == (401, (await wrong.json())["error"])
    assert (await ask(client, "PATCH", ME, me, {"name": "x"}))[:2] == (403, "FORBIDDEN")


async def test_a_missing_sealing_key_is_the_operators_matter(client: Client, fakes: Fakes, me: Me) -> None:
    fakes.stores.accounts.keys[UUID(me["user"]["id"])] = b"????" + b"0" * 60
    status, code, headers = await ask(client, "GET", ME, me)
    assert (status, code, headers["Retry-After"]) == (503, "STORES_AWAY", "1")


# -- export ----------------------------------------------------------------------------------------------------------


async def note(client: Client, me: Me, title: str) -> UUID:
    body = {"kind": "note", "title": title}
    return UUID((await ask(client, "POST", "/api/v1/resources", me, body))[1]["id"])


async def test_an_export_has_everything_of_ones_own(client: Client, fakes: Fakes, me: Me) -> None:
    ids = sorted([await note(client, me, f"note {n}") for n in range(45)])
    other = await registered(client, **NEW | {"email": "b@example.org"})
    await note(client, {"headers": {"Authorization": f"Bearer {other['access_token']}"}}, "not mine")
    assert (await ask(client, "DELETE", f"/api/v1/resources/{ids[0]}", me))[0] == 204
    happened = [Told(n, b'{"type":"resource.updated","n":%d}' % n) for n in range(1, 6)]
    fakes.stores.belongings.events["resources", ids[1]] = happened
    account = [Told(1, b'{"type":"account.created","time":"2026-01-01T00:00:00Z","data":{"email_sealed":"s1.x"}}')]
    id = UUID(me["user"]["id"])
    fakes.stores.belongings.events["accounts", id] = account
    wrapped, session = fakes.stores.accounts.keys[id], fakes.stores.sessions.states[id].held[0]
    started = {
        "session": str(session.id), "family": session.family, "current": session.current, "account_version": 1,
        "device_sealed": fakes.sealer.seal(wrapped, id, "device", "a phone"),
        "address_sealed": fakes.sealer.seal(wrapped, id, "address", "203.0.113.7"),
    }  # fmt: skip
    ended = {"session": str(session.id), "reason": "logout"}
    fakes.stores.belongings.events["sessions", id] = [
        Told(n, json.dumps({"type": kind, "time": "2026-01-01T00:00:00Z", "data": data}).encode())
        for n, kind, data in ((1, "session.started", started), (2, "session.revoked", ended))
    ]
    answer = await client.get(EXPORT, headers=me["headers"])
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="export.json"'
    found = await answer.json()
    assert list(found) == [
        "exported_at", "account", "account_history", "api_keys", "api_key_history", "second_factor",
        "second_factor_history", "sessions", "session_history", "mails", "resources",
    ]  # fmt: skip
    assert found["account"] == me["user"]
    assert found["account_history"] == [{"type": "account.created", "time": "2026-01-01T00:00:00Z", "version": 1}]
    assert [one["id"] for one in found["sessions"]] == [str(session.id)]
    assert (found["sessions"][0]["address"], found["sessions"][0].keys() & {"family", "current"}) == (
        "127.0.0.1",
        set(),
    )
    assert found["session_history"] == [
        {"type": "session.started", "time": "2026-01-01T00:00:00Z", "version": 1, "session": str(session.id),
         "device": "a phone", "address": "203.0.113.7"},
        {"type": "session.revoked", "time": "2026-01-01T00:00:00Z", "version": 2, **ended},
    ]  # fmt: skip
    assert [UUID(one["id"]) for one in found["resources"]] == ids
    assert found["resources"][0]["deleted_at"] is not None
    assert found["resources"][1]["deleted_at"] is None
    assert [event["n"] for event in found["resources"][1]["history"]] == [1, 2, 3, 4, 5]
    assert (await client.head(EXPORT, headers=me["headers"])).status == 200


async def test_an_export_that_can_not_be_read_on_is_not_taken_for_whole(client: Client, fakes: Fakes, me: Me) -> None:
    for n in range(21):
        await note(client, me, f"note {n}")
    fakes.stores.belongings.cut = 1
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        await (await client.get(EXPORT, headers=me["headers"])).read()
    assert client.app is not None
    assert client.app[export.ROOM].left == export.AT_ONCE


async def test_an_export_ends_with_its_session(
    client: Client, fakes: Fakes, me: Me, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = fakes.stores.sessions.states[UUID(me["user"]["id"])].held[0].id

    async def ending(noun: str, aggregate: UUID, after: int) -> list[Told]:
        fakes.stores.revoked.add(session)
        return []

    monkeypatch.setattr(fakes.stores.belongings, "history", ending)
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        await (await client.get(EXPORT, headers=me["headers"])).read()
    assert (await ask(client, "GET", EXPORT, me))[:2] == (401, "SESSION_ENDED")
    assert fakes.stores.revoked.calls == []


async def test_a_page_that_may_call_can_read_an_export(fakes: Fakes) -> None:
    fakes.settings = msgspec.structs.replace(SETTINGS, cors_origins=("https://app.example.org",))
    async with TestClient(TestServer(create(fakes.settings, fakes.open))) as client:
        data = await registered(client, **NEW)
        headers = {"Authorization": f"Bearer {data['access_token']}", "Origin": "https://app.example.org"}
        answer = await client.get(EXPORT, headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert "Content-Disposition" in answer.headers["Access-Control-Expose-Headers"]
        assert (await answer.json())["account"] == data["user"]


async def test_exports_at_the_same_time_are_bounded(client: Client, fakes: Fakes, me: Me, monkeypatch: Any) -> None:
    gate = asyncio.Event()
    history = fakes.stores.belongings.history

    async def held(noun: str, aggregate: UUID, after: int) -> list[Told]:
        await gate.wait()
        return await history(noun, aggregate, after)

    monkeypatch.setattr(fakes.stores.belongings, "history", held)
    running = [asyncio.create_task(client.get(EXPORT, headers=me["headers"])) for _ in range(export.AT_ONCE)]
    assert client.app is not None
    while client.app[export.ROOM].left:
        await asyncio.sleep(0)
    status, code, headers = await ask(client, "GET", EXPORT, me)
    assert (status, code, headers["Retry-After"]) == (503, "TOO_BUSY", "5")
    gate.set()
    for answer in await asyncio.gather(*running):
        assert (await answer.json())["resources"] == []
    assert (await ask(client, "GET", EXPORT, me))[0] == 200


# -- a flood of passwords --------------------------------------------------------------------------------------------


@pytest.fixture
async def flooded(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, threading.Event]]:
    """A front whose threads for passwords are held until the event is set."""
    gate = threading.Event()
    matches = Passwords._matches

    def held(self: Passwords, hashed: str, password: str) -> bool:
        gate.wait()
        return matches(self, hashed, password)

    async with TestClient(TestServer(create(SETTINGS, fakes.open))) as client:
        monkeypatch.setattr(Passwords, "_matches", held)
        try:
            yield client, gate
        finally:
            gate.set()


async def test_reads_are_answered_while_every_thread_for_passwords_is_busy(
    flooded: tuple[Client, threading.Event], fakes: Fakes
) -> None:
    client, gate = flooded
    me = {"headers": bearing(await registered(client, **NEW))}
    id = await note(client, me, "read me")
    wrong = {"email": NEW["email"], "password": "a wrong guess"}
    room = 1 + 64  # thread and queue of security.passwords.Passwords
    async with aiohttp.ClientSession(client.make_url("/"), connector=aiohttp.TCPConnector(limit=0)) as many:
        flood = [asyncio.create_task(many.post("/api/v1/auth/login", json=wrong)) for _ in range(room + 20)]
        refused = [task async for task in _done(flood, 20)]
        # All threads and all places are taken, and stay so: whoever asks for a password now is told to come again.
        for answer in refused:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert (await answer.json())["error"]["code"] == "TOO_BUSY"
        body = {"current_password": NEW["password"], "new_password": "another of these"}
        assert (await ask(client, "PUT", PASSWORD, me, body))[:2] == (503, "TOO_BUSY")
        assert (await ask(client, "DELETE", ME, me, {"password": NEW["password"]}))[:2] == (503, "TOO_BUSY")
        for _ in range(50):
            assert (await ask(client, "GET", f"/api/v1/resources/{id}", me))[0] == 200
            assert (await ask(client, "GET", ME, me))[0] == 200
        assert sum(task.done() for task in flood) == 20
        gate.set()
        answers = await asyncio.gather(*flood)
        assert sorted(answer.status for answer in answers) == [401] * room + [503] * 20


async def _done(tasks: list[Any], count: int) -> AsyncIterator[Any]:
    """The results of the first `count` tasks to end."""
    waiting = set(tasks)
    while count > 0:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            count -= 1
            yield task.result()
