"""Accounts for admins, and for nobody else."""

import re
from typing import Any
from uuid import UUID

import pytest

from domain.access import Role
from tests.web.conftest import ADMIN, Bearer, Client, registered
from tests.web.fakes import Fakes

USERS = "/api/v1/users"


@pytest.fixture
def admin(bearer: Bearer) -> dict[str, str]:
    return bearer(ADMIN, Role.ADMIN)


async def ids_of(client: Client, *names: str) -> list[str]:
    """The ids of accounts that are made, each with its name."""
    return [(await registered(client, name, name=name))["user"]["id"] for name in names]


async def test_where_no_account_is(client: Client, admin: dict[str, str]) -> None:
    for path in ("/not-an-id", "/00000000-0000-7000-8000-000000000009"):
        assert (await client.get(USERS + path, headers=admin)).status == 404
    assert (await client.get(f"{USERS}/me/role", headers=admin)).status == 405


async def test_a_list_is_read_page_by_page_and_shows_what_is_sealed(client: Client, admin: dict[str, str]) -> None:
    ids = await ids_of(client, *(f"user{n}" for n in range(5)))
    found: list[Any] = []
    cursor = ""
    while True:
        answer = await client.get(f"{USERS}?limit=2{cursor}", headers=admin)
        shown = await answer.json()
        assert answer.headers["Cache-Control"] == "no-store"
        found += shown["data"]
        if shown["meta"]["next_cursor"] is None:
            break
        cursor = f"&cursor={shown['meta']['next_cursor']}"
    assert [user["id"] for user in found] == ids[::-1]
    assert (found[0]["email"], found[0]["name"], found[0]["phone"]) == ("user4@example.org", "user4", None)
    other = await client.get(f"{USERS}?limit=2&filter[role]=user{cursor}", headers=admin)
    assert other.status == 400


async def test_accounts_are_found_by_address_role_and_status(client: Client, admin: dict[str, str]) -> None:
    han, mina = await ids_of(client, "han", "mina")
    await client.put(f"{USERS}/{han}/role", json={"role": "admin"}, headers=admin)
    await client.put(f"{USERS}/{mina}/status", json={"status": "disabled"}, headers=admin)
    for query, ids in (
        ("filter[email]=HAN@example.org", [han]), ("filter[email]=nobody", []), ("filter[role]=admin", [han]),
        ("filter[status]=disabled", [mina]), ("filter[status]=active&filter[role]=user", []),
        ("filter[email]=mina@example.org&filter[status]=active", []),
    ):  # fmt: skip
        shown = await (await client.get(f"{USERS}?{query}", headers=admin)).json()
        assert [user["id"] for user in shown["data"]] == ids, query


async def test_what_is_wrong_with_a_list_is_named_at_once(client: Client, admin: dict[str, str]) -> None:
    query = "limit=0&filter[role]=guest&filter[status]=erased&filter[email]=%00&cursor=x&sort=name"
    answer = await client.get(f"{USERS}?{query}", headers=admin)
    details = (await answer.json())["error"]["details"]
    assert {detail["field"] for detail in details} == {
        "limit", "filter[role]", "filter[status]", "filter[email]", "cursor", "sort",
    }  # fmt: skip
    assert (await client.get(f"{USERS}?filter[email]={'x' * 255}", headers=admin)).status == 400


async def test_a_role_and_a_status_are_changed_and_nothing_else(client: Client, admin: dict[str, str]) -> None:
    (id,) = await ids_of(client, "han")
    shown = await client.get(f"{USERS}/{id}", headers=admin)
    assert shown.headers["ETag"] == '"1"'
    assert (await client.get(f"{USERS}/{id}", headers=admin | {"If-None-Match": '"1"'})).status == 304
    changed = await client.put(f"{USERS}/{id}/role", json={"role": "admin"}, headers=admin | {"If-Match": '"1"'})
    user = (await changed.json())["data"]
    assert (changed.status, user["role"], user["email"], changed.headers["ETag"]) == (
        200, "admin", "han@example.org", '"2"',
    )  # fmt: skip
    stale = await client.put(f"{USERS}/{id}/role", json={"role": "user"}, headers=admin | {"If-Match": '"1"'})
    assert stale.status == 412
    for path, body in (
        ("role", {"role": "guest"}), ("role", {"role": "user", "version": 9}), ("role", {"status": "active"}),
        ("role", {}), ("status", {"status": "erased"}), ("status", {"status": "active", "role": "admin"}),
        ("status", {"status": 1}),
    ):  # fmt: skip
        assert (await client.put(f"{USERS}/{id}/{path}", json=body, headers=admin)).status == 400
    for status in ("disabled", "disabled", "active"):
        answer = await client.put(f"{USERS}/{id}/status", json={"status": status}, headers=admin)
        assert (await answer.json())["data"]["status"] == status
    assert (await answer.json())["data"]["version"] == 4


async def test_an_erased_account_is_there_for_nobody(client: Client, fakes: Fakes, admin: dict[str, str]) -> None:
    han, mina = await ids_of(client, "han", "mina")
    key = admin | {"Idempotency-Key": "once"}
    assert [(await client.delete(f"{USERS}/{han}", headers=key)).status for _ in range(2)] == [204, 204]
    assert (await client.delete(f"{USERS}/{han}", headers=admin)).status == 404
    assert (await client.get(f"{USERS}/{han}", headers=admin)).status == 404
    assert (await client.put(f"{USERS}/{han}/role", json={"role": "admin"}, headers=admin)).status == 404
    shown = await (await client.get(USERS, headers=admin)).json()
    assert [user["id"] for user in shown["data"]] == [mina]
    assert not re.search("han", str(fakes.stores.accounts.states[UUID(han)]))
