"""Limits: one number for all processes, whoever asks, and however they spell where they come from."""

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from config.shields import Limit, networks
from domain.access import Role
from tests.web.conftest import ADMIN, OTHER, OWNER, Bearer, Client
from tests.web.fakes import SETTINGS, Fakes
from web.app import create


def front(fakes: Fakes, **changes: Any) -> Client:
    fakes.settings = msgspec.structs.replace(SETTINGS, **changes)
    return TestClient(TestServer(create(fakes.settings, fakes.open)))


async def test_headers_say_what_is_left_and_429_says_when(fakes: Fakes, bearer: Bearer) -> None:
    limits = {"limit_read_user": Limit(3, 600), "limit_read_address": Limit(1000, 600)}
    async with front(fakes, **limits) as client:
        path = f"/api/v1/resources/{uuid4()}"
        answers = [await client.get(path, headers=bearer()) for _ in range(4)]
        assert [answer.status for answer in answers] == [404, 404, 404, 429]
        first, last = answers[0].headers, answers[-1].headers
        assert first["RateLimit-Policy"] == '"read-address";q=1000;w=600, "read-user";q=3;w=600'
        assert first["RateLimit"].startswith('"read-address";r=999;t=')
        assert ', "read-user";r=2;t=' in first["RateLimit"]
        assert last["RateLimit"] == f'"read-user";r=0;t={last["Retry-After"]}'
        assert 0 < int(last["Retry-After"]) <= 1200
        body = await answers[-1].json()
        assert (body["success"], body["error"]["code"]) == (False, "TOO_MANY_REQUESTS")
        problem = await client.get(path.replace("v1", "v2"), headers=bearer())
        assert (problem.status, problem.content_type) == (429, "application/problem+json")
        refused = await client.get(path, headers={"Authorization": "Bearer x"})
        assert (refused.status, refused.headers["RateLimit"].partition(";")[0]) == (401, '"read-address"')
        # Others, guests and other kinds of requests have their own.
        assert (await client.get(path, headers=bearer(OTHER))).status == 404
        assert (await client.get(path)).status == 404
        assert (await client.get("/api/v1/resources", headers=bearer())).status == 200
        assert (await client.get("/livez")).status == 200


async def test_an_address_is_bounded_over_all_its_users(fakes: Fakes, bearer: Bearer) -> None:
    async with front(fakes, limit_search_address=Limit(5, 600)) as client:
        found = [(await client.get("/api/v1/resources", headers=bearer(uuid4()))).status for _ in range(7)]
        assert found == [200] * 5 + [429] * 2


async def test_lists_and_exports_of_accounts_are_searches(fakes: Fakes, bearer: Bearer) -> None:
    async with front(fakes, limit_search_user=Limit(1, 600)) as client:
        admin = bearer(ADMIN, Role.ADMIN)
        assert [(await client.get("/api/v1/users", headers=admin)).status for _ in "ab"] == [200, 429]
        registered = await client.post("/api/v1/auth/register", json=RIGHT)
        mine = {"Authorization": f"Bearer {(await registered.json())['data']['access_token']}"}
        answers = [await client.get("/api/v1/users/me/export", headers=mine) for _ in "ab"]
        assert [answer.status for answer in answers] == [200, 429]
        assert '"search-user";r=0;' in answers[0].headers["RateLimit"]
        assert (await client.get("/api/v1/users/me", headers=mine)).status == 200


async def test_a_forged_forwarding_header_gives_nobody_a_second_quota(fakes: Fakes) -> None:
    async with front(fakes, limit_read_address=Limit(5, 600)) as client:
        found = []
        for number in range(8):
            forged = {
                "X-Forwarded-For": f"198.51.100.{number}",
                "Forwarded": f"for=198.51.100.{number}",
                "X-Real-IP": f"198.51.100.{number}",
                "X-Client-IP": f"198.51.100.{number}",
                "CF-Connecting-IP": f"198.51.100.{number}",
            }
            found.append((await client.get("/api/v1/resources/x", headers=forged)).status)
        assert found == [404] * 5 + [429] * 3


async def test_callers_behind_our_proxy_are_counted_one_by_one(fakes: Fakes) -> None:
    changes = {"limit_read_address": Limit(2, 600), "trusted_proxies": networks("127.0.0.0/8,::1")}
    async with front(fakes, **changes) as client:

        async def status(forwarded: str) -> int:
            return (await client.get("/api/v1/resources/x", headers={"X-Forwarded-For": forwarded})).status

        assert [await status("198.51.100.1") for _ in range(3)] == [404, 404, 429]
        assert [await status(f"6.6.6.{n}, 198.51.100.1") for n in range(3)] == [429] * 3
        assert await status("198.51.100.2") == 404
        # Whoever has one IPv6 address has its /64.
        assert [await status(f"2001:db8::{n}") for n in range(3)] == [404, 404, 429]
        assert await status("2001:db8:0:1::1") == 404


async def login(client: Client, email: str, password: str, address: str) -> int:
    body = {"email": email, "password": password}
    answer = await client.post("/api/v1/auth/login", json=body, headers={"X-Forwarded-For": address})
    return answer.status


LOGINS = {
    "limit_login_account": Limit(3, 900),
    "limit_login_address": Limit(5, 900),
    "trusted_proxies": networks("127.0.0.0/8,::1"),
}
CREDENTIALS = ("mina@example.org", "correct horse")
RIGHT = dict(zip(("email", "password"), CREDENTIALS, strict=True))


async def test_spraying_passwords_over_many_accounts_is_bounded_by_address(fakes: Fakes) -> None:
    async with front(fakes, **LOGINS) as client:
        await client.post("/api/v1/auth/register", json=RIGHT)
        found = [await login(client, f"user{n}@example.org", "password1", "198.51.100.1") for n in range(8)]
        assert found == [401] * 5 + [429] * 3
        assert await login(client, *CREDENTIALS, "198.51.100.1") == 429
        assert await login(client, *CREDENTIALS, "198.51.100.2") == 200


async def test_one_account_from_many_addresses_is_bounded_and_its_owner_gets_in(fakes: Fakes) -> None:
    async with front(fakes, **LOGINS) as client:
        await client.post("/api/v1/auth/register", json=RIGHT)
        assert await login(client, *CREDENTIALS, "203.0.113.1") == 200  # where the owner is at home
        found = [await login(client, RIGHT["email"], f"guess {n}", f"198.51.100.{n}") for n in range(6)]
        assert found == [401] * 3 + [429] * 3
        # An address that is none is bounded in the same way, so this tells nobody whether it is one.
        found = [await login(client, "nobody@example.org", f"guess {n}", f"192.0.2.{n}") for n in range(6)]
        assert found == [401] * 3 + [429] * 3
        for _ in range(10):
            assert await login(client, *CREDENTIALS, "203.0.113.1") == 200
        # At home guesses are bounded too, by themselves.
        assert [await login(client, RIGHT["email"], "guess", "203.0.113.1") for _ in range(4)] == [401] * 3 + [429]


@pytest.mark.parametrize("way", ["PUT /users/me/password", "DELETE /users/me"])
async def test_a_stolen_token_is_no_way_to_guess_the_password(fakes: Fakes, way: str) -> None:
    method, _, path = way.partition(" ")

    async def guess(password: str, address: str) -> int:
        body = (
            {"current_password": password, "new_password": "another of these"}
            if method == "PUT"
            else {"password": password}
        )
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}
        return (await client.request(method, "/api/v1" + path, json=body, headers=headers)).status

    async with front(fakes, **LOGINS) as client:
        registered = await client.post("/api/v1/auth/register", json=RIGHT)
        token = (await registered.json())["data"]["access_token"]
        assert await login(client, *CREDENTIALS, "203.0.113.1") == 200
        # They count as failed logins do, and together with them.
        assert await login(client, RIGHT["email"], "a guess", "198.51.100.1") == 401
        found = [await guess(f"guess {n}", f"198.51.100.{n}") for n in range(4)]
        assert found == [403] * 2 + [429] * 2
        assert await login(client, *CREDENTIALS, "198.51.100.9") == 429
        assert await guess(RIGHT["password"], "203.0.113.1") == 204  # where the owner is at home


async def test_right_passwords_use_nothing_up(fakes: Fakes) -> None:
    async with front(fakes, **LOGINS) as client:
        await client.post("/api/v1/auth/register", json=RIGHT)
        assert [await login(client, *CREDENTIALS, f"198.51.100.{n}") for n in range(12)] == [200] * 12


async def test_many_guesses_at_once_are_no_way_around(fakes: Fakes) -> None:
    async with front(fakes, **LOGINS) as client:
        guesses = (login(client, RIGHT["email"], f"guess {n}", f"198.51.100.{n}") for n in range(30))
        assert sorted(await asyncio.gather(*guesses)) == [401] * 3 + [429] * 27


async def test_what_fails_for_our_own_reasons_is_no_guess(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: str) -> None:
        raise RuntimeError("marker")

    async with front(fakes, **LOGINS) as client:
        with monkeypatch.context() as patched:
            patched.setattr(fakes.stores.accounts, "by_email_index", broken)
            assert [await login(client, *CREDENTIALS, "198.51.100.1") for _ in range(6)] == [500] * 6
        assert await login(client, *CREDENTIALS, "198.51.100.1") == 401


async def test_auth_is_counted_exactly_over_processes(fakes: Fakes) -> None:
    other = Fakes()
    other.stores.limits = fakes.stores.limits
    strict = {"limit_auth_address": Limit(6, 600)}
    async with front(fakes, **strict) as one, front(other, **strict) as two:
        found = []
        for number in range(10):
            answer = await (one, two)[number % 2].post("/api/v1/auth/login", json={})
            found.append(answer.status)
        assert found == [400] * 6 + [429] * 4


async def test_the_log_says_where_it_comes_from_and_not_whose_it_is(
    fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    async with front(fakes, **LOGINS) as client:
        for _ in range(6):
            await login(client, RIGHT["email"], "guess", "198.51.100.77")
    lines = [it.getMessage() for it in caplog.records if it.name == "yeoul.web.quotas"]
    assert lines == ["the limit login-account (3 in 900 s) is used up by somebody in 198.51.100.0/24"]


async def test_a_limit_can_be_off(fakes: Fakes) -> None:
    off = Limit(0, 1)
    async with front(fakes, limit_read_address=off, limit_read_user=off) as client:
        answer = await client.get("/api/v1/resources/x")
        assert "RateLimit" not in answer.headers


@pytest.mark.parametrize(("account", "role"), [(OWNER, Role.USER), (ADMIN, Role.ADMIN)])
async def test_writes_are_counted_as_writes(fakes: Fakes, bearer: Bearer, account: Any, role: Role) -> None:
    async with front(fakes, limit_write_user=Limit(1, 600)) as client:
        body = {"kind": "note", "title": "t"}
        found = [
            (await client.post("/api/v1/resources", json=body, headers=bearer(account, role))).status for _ in "ab"
        ]
        assert found == [201, 429]


def batch(size: int) -> dict[str, Any]:
    return {"operations": [{"op": "create", "resource": {"kind": "note", "title": str(n)}} for n in range(size)]}


async def test_a_batch_counts_as_its_operations_and_one_that_is_refused_does_nothing(
    fakes: Fakes, bearer: Bearer
) -> None:
    path = "/api/v1/resources/batch"
    limits = {"limit_write_user": Limit(10, 600), "limit_write_address": Limit(100, 600)}
    async with front(fakes, **limits) as client:
        first = await client.post(path, json=batch(7), headers=bearer())
        assert first.headers["RateLimit-Policy"] == '"write-address";q=100;w=600, "write-user";q=10;w=600'
        assert first.headers["RateLimit"].startswith('"write-address";r=93;t=')
        assert ', "write-user";r=3;t=' in first.headers["RateLimit"]
        for _ in range(3):
            refused = await client.post(path, json=batch(4), headers=bearer())
            assert (refused.status, (await refused.json())["error"]["code"]) == (429, "TOO_MANY_REQUESTS")
            assert int(refused.headers["Retry-After"]) > 0
        assert len(fakes.commands.submitted) == 7
        # What was refused did not count, neither of its user nor of its address.
        last = await client.post(path, json=batch(3), headers=bearer())
        assert (last.status, len(fakes.commands.submitted)) == (200, 10)
        assert last.headers["RateLimit"].startswith('"write-address";r=90;t=')
        assert (await client.post(path, json=batch(1), headers=bearer())).status == 429
        # One of more than a limit allows takes all of it.
        assert (await client.post(path, json=batch(11), headers=bearer(OTHER))).status == 200
        assert (await client.post(path, json=batch(1), headers=bearer(OTHER))).status == 429
