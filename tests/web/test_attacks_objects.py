"""What is somebody else's, and what nobody may set: asked for in every way in which a request can be bent."""

from typing import Any
from uuid import uuid4

import pytest

from domain.access import Role
from tests.web.conftest import ADMIN, OTHER, OWNER, Bearer, Client, bearing, registered
from tests.web.fakes import Fakes

V1 = "/api/v1"
PATH = f"{V1}/resources"
NOTE = {"kind": "note", "title": "mine"}
NEW = {"email": "han@example.org", "password": "rapids of a river"}


async def made(client: Client, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json=NOTE | fields, headers=headers)
    assert answer.status == 201
    return dict((await answer.json())["data"])


async def fields_of(answer: Any) -> set[str]:
    assert answer.status == 400, await answer.text()
    return {detail["field"] for detail in (await answer.json())["error"]["details"]}


@pytest.mark.parametrize(("visibility", "status"), [("private", 404), ("public", 403)])
async def test_a_batch_reaches_nothing_of_others(
    client: Client, bearer: Bearer, fakes: Fakes, visibility: str, status: int
) -> None:
    mine = await made(client, bearer(), visibility=visibility)
    before = dict(fakes.stores.resources.states)
    operations = [
        {"op": "update", "id": mine["id"], "resource": {"title": "theirs"}},
        {"op": "update", "id": mine["id"], "resource": {"title": "theirs"}, "if_match": 1},
        {"op": "update", "id": mine["id"].upper(), "resource": {"visibility": "public"}},
        {"op": "delete", "id": mine["id"]},
        {"op": "delete", "id": mine["id"], "if_match": 1},
    ]
    answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=bearer(OTHER))
    assert [one["status"] for one in (await answer.json())["data"]] == [status] * 5
    assert fakes.stores.resources.states == before
    # The same of whoever may: it is not the batch that was wrong.
    answer = await client.post(f"{PATH}/batch", json={"operations": operations[:1]}, headers=bearer())
    assert [one["status"] for one in (await answer.json())["data"]] == [200]


async def test_what_is_private_is_answered_as_what_is_not_there(client: Client, bearer: Bearer) -> None:
    mine = await made(client, bearer())
    for method, more, body in (
        ("GET", "", None), ("PUT", "", NOTE), ("PATCH", "", {}), ("DELETE", "", None), ("GET", "/history", None),
        ("POST", "/restore", None),
    ):  # fmt: skip
        told = []
        for id in (mine["id"], uuid4()):
            for tag in ({}, {"If-Match": '"1"'}, {"If-Match": '"7"'}):
                headers = bearer(OTHER) | tag
                answer = await client.request(method, f"{PATH}/{id}{more}", json=body, headers=headers)
                told.append((answer.status, (await answer.json())["error"], answer.headers.get("ETag")))
        assert told == [told[0]] * 6, method  # not even by its version
        assert told[0][0] == 404


@pytest.mark.parametrize("prefix", [V1, "/api/v2"])
async def test_the_key_of_another_opens_none_of_its_answers(client: Client, bearer: Bearer, prefix: str) -> None:
    key = {"Idempotency-Key": "guessed"}
    mine = await made(client, bearer() | key)
    answer = await client.post(f"{prefix}/resources", json=NOTE, headers=bearer(OTHER) | key)
    assert answer.status == 201
    assert "Idempotency-Replayed" not in answer.headers
    assert mine["id"] not in await answer.text()
    again = await client.post(PATH, json=NOTE, headers=bearer() | key)
    assert (again.headers["Idempotency-Replayed"], (await again.json())["data"]["id"]) == ("true", mine["id"])
    gone = {"Idempotency-Key": "gone"}
    assert (await client.delete(f"{PATH}/{mine['id']}", headers=bearer() | gone)).status == 204
    assert (await client.delete(f"{prefix}/resources/{mine['id']}", headers=bearer(OTHER) | gone)).status == 404


@pytest.mark.parametrize("prefix", [V1, "/api/v2"])
async def test_an_operation_has_one_address_and_one_owner(client: Client, bearer: Bearer, prefix: str) -> None:
    answer = await client.post(PATH, json=NOTE, headers=bearer() | {"Prefer": "respond-async"})
    id = answer.headers["Location"].rpartition("/")[2]
    for spelled in (id.replace("-", ""), f"{{{id}}}", f"urn:uuid:{id}", f"{id}%00", f" {id}", f"{id}/", id[:-2] + "_1"):
        for headers in (bearer(), bearer(OTHER), bearer(ADMIN, Role.ADMIN)):
            assert (await client.get(f"{prefix}/operations/{spelled}", headers=headers)).status == 404
    assert (await client.get(f"{prefix}/operations/{id}", headers=bearer(OTHER))).status == 404
    assert (await client.get(f"{prefix}/operations/{id}", headers=bearer())).status == 200


@pytest.mark.parametrize("more", ["", "/role", "/status"])
async def test_ones_own_account_is_no_way_into_the_admins_endpoints(client: Client, more: str) -> None:
    tokens = await registered(client)
    mine = bearing(tokens)
    for address in (tokens["user"]["id"], tokens["user"]["id"].upper(), f"{tokens['user']['id']}/"):
        for method, body in (("GET", None), ("PUT", {"role": "admin"}), ("DELETE", None)):
            answer = await client.request(method, f"{V1}/users/{address}{more}", json=body, headers=mine)
            assert answer.status in (403, 404, 405)
    me = (await (await client.get(f"{V1}/users/me", headers=mine)).json())["data"]
    assert (me["role"], me["status"], me["version"]) == ("user", "active", 1)


async def test_the_lists_of_others_are_not_asked_for_by_a_filter(client: Client, bearer: Bearer) -> None:
    mine = await made(client, bearer())
    theirs = await made(client, bearer(OTHER))
    for query in (
        f"filter[owner_id]={OWNER}", f"filter[owner_id][in]={OWNER},{OTHER}", f"filter[owner_id][ne]={OTHER}",
        "filter[visibility]=private", "filter[visibility][in]=private,public", "deleted=true", "total=true",
        "filter[visibility][ne]=public", "filter[title]=mine", "fields=id,owner_id", "sort=title",
    ):  # fmt: skip
        answer = await client.get(f"{PATH}?{query}", headers=bearer(OTHER))
        told = await answer.json()
        assert answer.status == 200, query
        assert {item["id"] for item in told["data"]} <= {theirs["id"]}, query
        assert told["meta"].get("total", {"count": 1})["count"] <= 1
        guest = await client.get(f"{PATH}?{query.replace('deleted=true', '')}")
        assert (await guest.json())["data"] == [], query
        assert mine["id"] not in await answer.text()


SET = {
    "id": str(OTHER), "owner_id": str(OTHER), "version": 9, "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z", "deleted_at": None, "expected_version": 1, "merge": {}, "role": "admin",
    "actor": {"id": str(OTHER), "role": "admin"}, "__proto__": {"role": "admin"}, "Owner_ID": str(OTHER),
    "owner_id ": str(OTHER), "is_admin": True,
}  # fmt: skip
"""What a body may want to take along; every member of a command, a state or a row."""
OF_ACCOUNTS = {
    "id": str(OTHER), "role": "admin", "status": "active", "version": 9, "owner_id": str(OTHER),
    "created_at": "2020-01-01T00:00:00Z", "email_index": "0" * 64, "email_sealed": "s", "name_sealed": "s",
    "password_sealed": "s", "checked_sealed": "s", "kept_session": str(OTHER), "expected_version": 1,
    "scopes": ["admin"], "session": str(OTHER), "sid": str(OTHER), "account": str(OTHER),
    "__proto__": {"role": "admin"}, "Role": "admin", "email": "x@example.org", "password": "x",
}  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_resource_takes_along_nothing_that_is_not_its_callers(
    client: Client, bearer: Bearer, fakes: Fakes, method: str
) -> None:
    path = PATH if method == "POST" else f"{PATH}/{(await made(client, bearer()))['id']}"
    before, sent = dict(fakes.stores.resources.states), len(fakes.commands.submitted)
    body = {"title": "x"} if method == "PATCH" else NOTE
    for role in (Role.USER, Role.ADMIN):
        for name, value in SET.items():
            answer = await client.request(method, path, json=body | {name: value}, headers=bearer(OWNER, role))
            assert await fields_of(answer) == {name}
        answer = await client.request(method, path, json=body | SET, headers=bearer(OWNER, role))
        assert await fields_of(answer) == set(SET)  # and all of them at once
    assert (fakes.stores.resources.states, len(fakes.commands.submitted)) == (before, sent)


async def test_a_batch_takes_along_nothing_either(client: Client, bearer: Bearer, fakes: Fakes) -> None:
    mine = await made(client, bearer())
    before, sent = dict(fakes.stores.resources.states), len(fakes.commands.submitted)
    operations = [
        operation
        for name, value in SET.items()
        for operation in (
            {"op": "create", "resource": NOTE | {name: value}},
            {"op": "update", "id": mine["id"], "resource": {name: value}},
            {"op": "create", "resource": NOTE, name: value},
            {"op": "delete", "id": mine["id"], f"x{name}": value},
        )
    ]
    answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=bearer())
    assert {one["status"] for one in (await answer.json())["data"]} == {400}
    answer = await client.post(f"{PATH}/batch", json={"operations": operations[:1]} | SET, headers=bearer())
    assert await fields_of(answer) == set(SET)
    assert (fakes.stores.resources.states, len(fakes.commands.submitted)) == (before, sent)


async def test_attributes_are_data_and_nothing_of_the_resource(client: Client, bearer: Bearer) -> None:
    mine = await made(client, bearer(), attributes=SET)
    assert (mine["owner_id"], mine["version"], mine["attributes"]) == (str(OWNER), 1, SET)
    answer = await client.patch(f"{PATH}/{mine['id']}", json={"attributes": {"owner_id": "x"}}, headers=bearer())
    changed = (await answer.json())["data"]
    assert (changed["owner_id"], changed["attributes"]["owner_id"], changed["version"]) == (str(OWNER), "x", 2)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/auth/register", NEW),
        ("POST", "/auth/login", NEW),
        ("POST", "/auth/refresh", {"refresh_token": "x"}),
        ("PATCH", "/users/me", {"name": "x"}),
        ("PUT", "/users/me/password", {"current_password": NEW["password"], "new_password": "another of these"}),
        ("DELETE", "/users/me", {"password": NEW["password"]}),
        ("PUT", "/users/{id}/role", {"role": "user"}),
        ("PUT", "/users/{id}/status", {"status": "active"}),
        ("PUT", "/kinds/box", {"schema": {}}),
    ],
)
async def test_nothing_is_taken_along_with_an_account(
    client: Client, bearer: Bearer, fakes: Fakes, method: str, path: str, body: dict[str, Any]
) -> None:
    tokens = await registered(client)
    mine = bearing(tokens)
    admins = "{id}" in path or "kinds" in path
    headers = bearer(ADMIN, Role.ADMIN) if admins else mine
    before, sent = dict(fakes.stores.accounts.states), len(fakes.commands.submitted)
    more = {name: value for name, value in OF_ACCOUNTS.items() if name not in body}
    address = V1 + path.format(id=tokens["user"]["id"])
    for name, value in more.items():
        answer = await client.request(method, address, json=body | {name: value}, headers=headers)
        assert await fields_of(answer) == {name}
    answer = await client.request(method, address, json=body | more, headers=headers)
    assert await fields_of(answer) == set(more)
    assert (fakes.stores.accounts.states, len(fakes.commands.submitted)) == (before, sent)


@pytest.mark.parametrize(
    ("more", "body"),
    [("/role", {"role": "guest"}), ("/role", {"role": "system"}), ("/role", {"role": ["admin"]}), ("/role", {}),
     ("/status", {"status": "erased"}), ("/status", {"status": None}), ("/status", {"status": "ACTIVE"})],
)  # fmt: skip
async def test_an_account_gets_no_role_and_no_state_that_an_admin_may_not_give(
    client: Client, bearer: Bearer, fakes: Fakes, more: str, body: dict[str, Any]
) -> None:
    tokens = await registered(client)
    before = dict(fakes.stores.accounts.states)
    answer = await client.put(f"{V1}/users/{tokens['user']['id']}{more}", json=body, headers=bearer(ADMIN, Role.ADMIN))
    assert await fields_of(answer) == {more[1:]}
    assert fakes.stores.accounts.states == before
