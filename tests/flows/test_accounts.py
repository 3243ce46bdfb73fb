"""Accounts from end to end: who may do what, the last admin, what a retry shows, and other sealing keys."""

import asyncio
import json
import subprocess
import sys
from typing import Any
from uuid import UUID

import msgspec
import pytest

from config import Settings
from security import fields
from tests.flows.clients import PASSWORD, Caller, address_of, admin_of
from tests.flows.harness import ROOT, WRITES, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOBODY = "00000000-0000-7000-8000-000000000009"


async def test_every_role_meets_the_endpoints_of_accounts(served: System) -> None:
    guest = Caller(served.url)
    admin = await admin_of(served, guest)
    mina, jun = [await guest.register(address_of(name), name="Mina Kim") for name in ("mina", "jun")]
    new_password = {"current_password": PASSWORD, "new_password": "another of these"}
    # method, path, body → guest, a user on its own, a user on another's, an admin
    table: tuple[tuple[str, str, Any, tuple[int, int, int, int]], ...] = (
        ("GET", "/users/me", None, (401, 200, 200, 200)),
        ("PATCH", "/users/me", {"name": "N"}, (401, 200, 200, 200)),
        ("PUT", "/users/me/password", new_password, (401, 204, 204, 403)),
        ("GET", "/users", None, (401, 403, 403, 200)),
        ("GET", f"/users/{mina.id}", None, (401, 403, 403, 200)),
        ("PUT", f"/users/{mina.id}/role", {"role": "user"}, (401, 403, 403, 200)),
        ("PUT", f"/users/{mina.id}/status", {"status": "active"}, (401, 403, 403, 200)),
        ("DELETE", f"/users/{NOBODY}", None, (401, 403, 403, 404)),
        ("DELETE", "/users/me", {"password": "another of these"}, (401, 204, 204, 403)),
    )
    for method, path, body, expected in table:
        found = [(await caller.ask(method, path, body))[0] for caller in (guest, mina, jun, admin)]
        assert tuple(found) == expected, (method, path)
    ids = [mina.id, jun.id, admin.id]
    rows = await served.stores.database.fetch("SELECT id, status FROM accounts WHERE id = ANY($1)", ids)
    assert {str(row["id"]): row["status"] for row in rows} == {
        mina.id: "erased", jun.id: "erased", admin.id: "active",
    }  # fmt: skip
    await served.until_published()
    events, _ = await served.events("events.accounts")
    own = [event for event in events if event["subject"] in ids]
    assert {event["type"] for event in own} == {
        "account.created", "account.updated", "account.password_changed", "account.erased",
    }  # fmt: skip
    changed = next(event for event in own if event["type"] == "account.password_changed")
    assert changed["data"].keys() == {"password_sealed", "kept_session", "end_api_keys"}
    assert not any("example.com" in json.dumps(event) or "Mina Kim" in json.dumps(event) for event in events)


async def test_of_two_who_register_one_address_at_once_one_has_it_and_after_an_erasure_the_next(
    served: System,
) -> None:
    guest = Caller(served.url)
    database = served.stores.database
    others = [row["id"] for row in await database.fetch("SELECT id FROM accounts")]
    body = {"email": address_of("one"), "password": PASSWORD}
    for _ in range(2):
        answers = await asyncio.gather(*(guest.ask("POST", "/auth/register", body) for _ in range(6)))
        assert sorted(status for status, _ in answers) == [201, *[409] * 5]
        won = next(data for status, data in answers if status == 201)
        me = Caller(guest.url, won["access_token"], won["user"]["id"])
        assert (await me.ask("GET", "/users/me"))[1]["email"] == body["email"]
        assert (await me.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204
        assert (await guest.ask("POST", "/auth/login", body))[0] == 401
        assert (await me.ask("GET", "/users/me")) in ((410, "ACCOUNT_ERASED"), (401, "SESSION_ENDED"))
    rows = await database.fetch("SELECT status, email_index FROM accounts WHERE id <> ALL($1)", others)
    assert [(row["status"], row["email_index"]) for row in rows] == [("erased", None)] * 2


async def test_one_active_admin_is_left_whoever_asks_at_the_same_time(writing: System) -> None:
    guest = Caller(writing.url)  # so that who was ended is still asked, and not told to log in
    second = writing.worker(*WRITES)
    await second.start()  # of two workers each decides for its own partitions
    admins = [await admin_of(writing, guest, f"admin{n}@example.com") for n in range(6)]
    ways: tuple[tuple[str, str, Any], ...] = (
        ("PUT", "/users/{}/role", {"role": "user"}), ("PUT", "/users/{}/status", {"status": "disabled"}),
        ("DELETE", "/users/{}", None),
    )  # fmt: skip

    async def end(by: Caller, whom: Caller, way: int) -> tuple[int, Any]:
        method, path, body = ways[way % 3]
        return await by.ask(method, path.format(whom.id), body)

    # Each ends the next one, in a circle, all at once: without a rule that holds nobody would be left.
    answers = await asyncio.gather(
        *(end(by, whom, n) for n, (by, whom) in enumerate(zip(admins, admins[1:] + admins[:1], strict=True)))
    )
    assert [answer for answer in answers if answer[0] >= 400] == [(409, "LAST_ADMIN")]
    rows = await writing.stores.database.fetch("SELECT id FROM accounts WHERE role = 'admin' AND status = 'active'")
    assert len(rows) == 1
    last = next(admin for admin in admins if admin.id == str(rows[0]["id"]))
    for way in range(3):
        assert await end(last, last, way) == (409, "LAST_ADMIN")
    assert (await last.ask("GET", f"/users/{last.id}"))[1]["version"] == 1
    # With another one it goes.
    mina = await guest.register(address_of("mina"))
    assert (await last.ask("PUT", f"/users/{mina.id}/role", {"role": "admin"}))[0] == 200
    assert (await last.ask("PUT", f"/users/{last.id}/status", {"status": "disabled"}))[0] == 200
    await second.stop()


async def test_a_retry_shows_the_account_as_the_first_answer_did(served: System) -> None:
    guest = Caller(served.url)
    admin, mina = await admin_of(served, guest), await guest.register(address_of("mina"), name="Mina")
    status = (f"/users/{mina.id}/status", {"status": "active"})
    me = ("/users/me", {"name": "Mina Kim", "phone": "+82 2 123"})
    key = {"Idempotency-Key": "the first"}
    active = await admin.ask("PUT", *status, **key)  # it is active already
    assert (active[0], active[1]["version"], active[1]["name"]) == (200, 1, "Mina")
    named = await mina.ask("PATCH", *me, **key)
    assert (named[0], named[1]["version"], named[1]["name"], named[1]["phone"]) == (200, 2, "Mina Kim", "+82 2 123")
    moved = {"email": address_of("moved"), "password": PASSWORD}
    assert (await mina.ask("PUT", "/users/me/email", moved))[0] == 202
    assert (await mina.ask("PATCH", "/users/me", {"name": "Nobody", "phone": None}))[1]["version"] == 4
    assert await admin.ask("PUT", *status, **key) == active
    assert await mina.ask("PATCH", *me, **key) == named
    assert (await mina.ask("GET", "/users/me"))[1]["name"] == "Nobody"
    assert (await admin.ask("DELETE", f"/users/{mina.id}"))[0] == 204
    assert await admin.ask("PUT", *status, **key) == (410, "ACCOUNT_ERASED")


async def test_an_operation_shows_the_account_to_who_may_see_it(served: System) -> None:
    guest = Caller(served.url)
    email, other = address_of("mina"), address_of("jun")
    chief, mina, jun = (
        await admin_of(served, guest),
        await guest.register(email, name="Mina"),
        await guest.register(other),
    )
    later = {"Prefer": "respond-async"}

    async def becomes(role: str) -> Caller:
        """Jun, logged in with another role."""
        assert (await chief.ask("PUT", f"/users/{jun.id}/role", {"role": role}))[0] == 200
        _, granted = await guest.ask("POST", "/auth/login", {"email": other, "password": PASSWORD})
        return Caller(served.url, granted["access_token"], jun.id)

    async def done(by: Caller, id: str) -> Any:
        async with asyncio.timeout(60):
            while True:
                status, operation = await by.ask("GET", f"/operations/{id}")
                if status != 503:  # Redis stood still for a moment
                    assert status == 200
                    if operation["status"] != "pending":
                        assert operation["status"] == "succeeded"
                        return operation["result"]
                await asyncio.sleep(0.05)

    own = (await mina.ask("PATCH", "/users/me", {"name": "Mina Kim"}, **later))[1]["id"]
    assert await done(mina, own) == (await mina.ask("GET", "/users/me"))[1]
    admin = await becomes("admin")
    made = (await admin.ask("PUT", f"/users/{mina.id}/status", {"status": "active"}, **later))[1]["id"]
    shown = await done(admin, made)
    assert (shown["email"], shown["name"], shown["version"]) == (email, "Mina Kim", 2)
    # Who is no admin any more may ask what became of it, and sees nothing personal.
    nothing = {"email": None, "name": None, "phone": None, "pending_email": None}
    assert await done(await becomes("user"), made) == shown | nothing
    assert (await chief.ask("DELETE", f"/users/{mina.id}"))[0] == 204
    assert await done(chief, made) == shown | nothing


def yeoul(settings: Settings, *arguments: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """A command as `./yeoul` runs it, with this installation's settings."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=settings.environ() | more, input=given,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


async def test_an_admin_is_made_by_whoever_has_the_settings(installation: System) -> None:
    guest = Caller(await installation.serve(processes=1))
    settings = installation.settings
    password = "ferry lantern pebble"

    async def create(email: str, given: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(yeoul, settings, "admin", "create", email, given=given)

    for given, said in (
        ("", "no password was given"), ("tiny 7\n", "password must not be shorter than 12"),
        ("too short\n", "12 characters"),
        ("aaaabbbbaaaabbbb\n", "different characters"),
        ("Password-12345678\n", "well-known"), ("root.one.1234\n", "the address"),
        ("x" * 129 + "\n", "password must not"),
    ):  # fmt: skip
        refused = await create("root.one@example.com", given)
        assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
        assert given.strip() == "" or given.strip() not in refused.stderr + refused.stdout
    made = await create("root.one@example.com", password + "\n")
    assert (made.returncode, made.stdout) == (0, "root.one@example.com: admin\n"), made.stderr
    status, data = await guest.ask("POST", "/auth/login", {"email": "root.one@example.com", "password": password})
    assert status == 200
    root = Caller(guest.url, data["access_token"])
    assert (await root.ask("GET", "/users"))[1][0]["role"] == "admin"
    await guest.register("mina@example.com")
    for email in ("root.one@example.com", "mina@example.com"):
        again = await create(email, password)
        assert (again.returncode, f"./yeoul role {email} admin" in again.stderr) == (1, True)
    wrong = await create("nonsense", password)
    assert (wrong.returncode, "email must look like" in wrong.stderr) == (1, True)
    demoted = await asyncio.to_thread(yeoul, settings, "role", "root.one@example.com", "user")
    assert (demoted.returncode, "last active admin" in demoted.stderr) == (1, True)


async def test_the_sealing_key_is_changed_while_everything_runs(installation: System) -> None:
    settings = installation.settings
    (old,), new = settings.sealing_keys, b"n" * 32
    both = msgspec.structs.replace(settings, sealing_keys=(new, old))
    only_new = msgspec.structs.replace(settings, sealing_keys=(new,))
    guest = Caller(await installation.serve(processes=1))
    me = await guest.register("mina@example.com", name="Mina")
    count = 1200
    sealer = fields.Sealer(old)
    others = [UUID(int=(n + 1) << 64) for n in range(count)]
    wrapped = {id: sealer.new_key(id) for id in others}
    await installation.stores.database.execute(
        "INSERT INTO account_keys (account_id, wrapped) SELECT * FROM unnest($1::uuid[], $2::bytea[])",
        others, list(wrapped.values()),
    )  # fmt: skip
    missing = await asyncio.to_thread(yeoul, only_new, "keys", "rewrap")
    assert (missing.returncode, f"{count + 1:,} accounts need" in missing.stderr) == (1, True)
    next_one = msgspec.structs.replace(settings, sealing_keys=(old, new))
    given = await asyncio.to_thread(yeoul, next_one, "keys", "status")
    assert (given.returncode, "keep it if it is the next one" in given.stdout) == (0, True), given.stdout
    before = await asyncio.to_thread(yeoul, both, "keys", "status")
    assert (before.returncode, fields.key_id(old).hex() in before.stdout) == (0, True)
    done = await asyncio.to_thread(yeoul, both, "keys", "rewrap")
    assert (done.returncode, f"{count + 1:,} of {count + 1:,} keys" in done.stderr) == (0, True), done.stderr
    assert done.stderr.count("keys wrapped anew") == 3
    again = await asyncio.to_thread(yeoul, both, "keys", "rewrap")
    assert (again.returncode, again.stderr) == (0, "")
    # The old key is not needed any more, nor is it of use.
    kept = await installation.stores.accounts.keys_of(others)
    for id in others:
        sealed = sealer.seal(wrapped[id], id, "name", "before")
        assert fields.Sealer(new).open(kept[id], id, "name", sealed) == "before"
    assert (await me.ask("GET", "/users/me"))[0] == 503  # this front has the old one only
    await other_front(installation, only_new, me)


async def other_front(installation: System, settings: Settings, me: Caller) -> None:
    installation.settings = settings
    front = installation.front(processes=1)
    await front.start()
    me.url = installation.url_of(front)
    assert (await me.ask("GET", "/users/me"))[1]["name"] == "Mina"
    login = {"email": "mina@example.com", "password": PASSWORD}
    assert (await me.ask("POST", "/auth/login", login))[0] == 200
