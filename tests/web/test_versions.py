"""v2 is v1 in another dress: the same routes and handlers, bare objects, problem details, its own addresses."""

import json
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from domain.access import Role
from domain.refusals import Code
from tests.web.conftest import ADMIN, OTHER, Client
from tests.web.fakes import Fakes
from web.routes import API, V1, V2, routes

NOTE = {"kind": "note", "title": "a note"}


def test_neighbours_with_one_path_are_one_resource_to_look_for() -> None:
    app = web.Application()
    app.add_routes(routes())
    paths = [resource.canonical for resource in app.router.resources()]
    assert len(paths) == len(set(paths))


def test_every_endpoint_is_in_both_versions() -> None:
    app = web.Application()
    app.add_routes(routes())
    found = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    assert API
    assert all((method, version + path) in found for method, path, _, _ in API for version in (V1, V2))


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/resources/batch", {"POST"}), ("GET", "/resources/batch", {"POST"}),
     ("PUT", "/users/me", {"GET", "HEAD", "PATCH", "DELETE"})],
)  # fmt: skip
async def test_an_address_that_stands_written_out_knows_its_own_methods_only(
    client: Client, bearer: Any, version: str, method: str, path: str, allowed: set[str]
) -> None:
    answer = await client.request(method, version + path, headers=bearer(ADMIN, Role.ADMIN))
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == allowed


async def test_no_endpoint_passes_over_a_parameter_that_it_does_not_know(client: Client, bearer: Any) -> None:
    headers = bearer(ADMIN, Role.ADMIN)
    for method, path, guard, _ in API:
        address = path.replace("{id}", str(uuid4())).replace("{kind}", "note").replace("{metric}", "events")
        for version in (V1, V2):
            answer = await client.request(
                method, f"{version}{address}?nonsense=1&more", headers=headers if guard else {}, json=NOTE
            )
            if path.startswith("/analytics/") and answer.status == 404:
                continue  # which parameters there are depends on the metric, and there is none of this name
            told = await answer.json()
            details = told["error"]["details"] if version == V1 else told["errors"]
            assert answer.status == 400, (method, path)
            assert {detail["field"] for detail in details} == {"nonsense", "more"}, (method, path)


async def test_an_object_is_bare_and_its_address_is_of_the_version_that_made_it(client: Client, bearer: Any) -> None:
    made = await client.post(f"{V2}/resources", json=NOTE, headers=bearer())
    document = await made.json()
    assert made.status == 201
    assert made.headers["Location"] == f"{V2}/resources/{document['id']}"
    assert made.headers["ETag"] == '"1"'
    read = await client.get(made.headers["Location"], headers=bearer())
    assert await read.json() == document
    old = await client.get(f"{V1}/resources/{document['id']}", headers=bearer())
    assert (await old.json())["data"] == document
    replaced = await client.put(
        made.headers["Location"], json={**NOTE, "title": "b"}, headers=bearer(**{"If-Match": '"1"'})
    )
    assert (replaced.status, replaced.headers["ETag"], (await replaced.json())["title"]) == (200, '"2"', "b")
    gone = await client.delete(made.headers["Location"], headers=bearer())
    assert (gone.status, await gone.read(), "Content-Type" in gone.headers) == (204, b"", False)


async def test_a_list_has_its_cursor_beside_the_data(client: Client, bearer: Any) -> None:
    for _ in range(3):
        await client.post(f"{V2}/resources", json=NOTE, headers=bearer())
    page = await (await client.get(f"{V2}/resources?limit=2", headers=bearer())).json()
    assert set(page) == {"data", "next_cursor"}
    assert len(page["data"]) == 2
    last = await (await client.get(f"{V2}/resources?limit=2&cursor={page['next_cursor']}", headers=bearer())).json()
    assert (len(last["data"]), last["next_cursor"]) == (1, None)
    # A cursor is of the list, not of the dress.
    assert (await client.get(f"{V1}/resources?limit=2&cursor={page['next_cursor']}", headers=bearer())).status == 200


async def test_what_goes_on_is_asked_for_in_the_same_version(client: Client, bearer: Any) -> None:
    taken = await client.post(f"{V2}/resources", json=NOTE, headers=bearer(Prefer="respond-async"))
    operation = await taken.json()
    assert (taken.status, taken.headers["Location"]) == (202, f"{V2}/operations/{operation['id']}")
    asked = await (await client.get(taken.headers["Location"], headers=bearer())).json()
    assert (asked["status"], asked["result"]["title"]) == ("succeeded", "a note")
    stale = await client.delete(
        f"{V2}/resources/{asked['result']['id']}", headers=bearer(Prefer="respond-async", **{"If-Match": '"9"'})
    )
    asked = await (await client.get(stale.headers["Location"], headers=bearer())).json()
    assert (asked["error"]["code"], asked["error"]["status"]) == ("STALE_VERSION", 412)


async def test_accounts_are_bare_and_an_export_is_the_same_in_both(client: Client, bearer: Any) -> None:
    who = {"email": "mina@example.org", "password": "correct horse"}
    made = await (await client.post(f"{V2}/auth/register", json=who)).json()
    mine = {"Authorization": f"Bearer {made['access_token']}"}
    read = await client.get(f"{V2}/users/me", headers=mine)
    assert (read.headers["ETag"], await read.json()) == ('"1"', made["user"])
    page = await (await client.get(f"{V2}/users", headers=bearer(ADMIN, Role.ADMIN))).json()
    assert (page["data"], page["next_cursor"]) == ([made["user"]], None)
    exports = [await (await client.get(f"{version}/users/me/export", headers=mine)).json() for version in (V1, V2)]
    assert exports[0] | {"exported_at": ""} == exports[1] | {"exported_at": ""}
    wrong = await client.delete(f"{V2}/users/me", json={"password": "a guess"}, headers=mine)
    problem_of(wrong, await wrong.json(), 403, "WRONG_PASSWORD")
    taken = await client.patch(f"{V2}/users/me", json={"name": "Mina"}, headers={**mine, "Prefer": "respond-async"})
    assert (taken.status, taken.headers["Location"].startswith(f"{V2}/operations/")) == (202, True)


async def test_each_operation_of_a_batch_is_in_the_dress_that_was_asked_for(client: Client, bearer: Any) -> None:
    operations = [{"op": "create", "resource": NOTE}, {"op": "create", "resource": {**NOTE, "title": 5}}, {"op": "x"}]
    headers = bearer(**{"Accept-Language": "ko", "Idempotency-Key": "b"})
    answer = await client.post(f"{V2}/resources/batch", json={"operations": operations}, headers=headers)
    body = await answer.json()
    assert (answer.status, set(body), body["next_cursor"]) == (200, {"data", "next_cursor"}, None)
    made, wrong, unknown = body["data"]
    assert (made["status"], made["location"]) == (201, f"{V2}/resources/{made['data']['id']}")
    assert (wrong["status"], unknown["status"]) == (400, 400)
    assert wrong["error"] == {
        "type": "/problems/VALIDATION_ERROR",
        "title": "The input is not valid.",
        "status": 400,
        "detail": "입력값이 올바르지 않습니다.",
        "code": "VALIDATION_ERROR",
        "errors": [{"field": "title", "code": "type", "detail": wrong["error"]["errors"][0]["detail"]}],
    }
    old = await client.post(f"{V1}/resources/batch", json={"operations": operations}, headers=headers)
    made, wrong, _ = (await old.json())["data"]
    # A key counts for its path: this is another resource, at an address of this version.
    assert (made["status"], made["location"]) == (201, f"{V1}/resources/{made['data']['id']}")
    assert set(wrong["error"]) == {"code", "message", "details"}


async def test_an_operation_of_a_batch_that_goes_on_is_asked_for_in_the_same_version(
    client: Client, bearer: Any
) -> None:
    operations = [{"op": "create", "resource": NOTE}]
    for version in (V1, V2):
        answer = await client.post(
            f"{version}/resources/batch", json={"operations": operations}, headers=bearer(Prefer="respond-async")
        )
        (taken,) = (await answer.json())["data"]
        assert (taken["status"], taken["location"]) == (202, f"{version}/operations/{taken['data']['id']}")
        assert (await client.get(taken["location"], headers=bearer())).status == 200


async def test_lists_tell_their_total_and_what_is_restored_in_both_dresses(client: Client, bearer: Any) -> None:
    made = await (await client.post(f"{V2}/resources", json=NOTE, headers=bearer())).json()
    listed = await (await client.get(f"{V2}/resources?total=true&fields=title", headers=bearer())).json()
    assert listed == {
        "data": [{"id": made["id"], "title": "a note"}], "next_cursor": None, "total": {"count": 1, "exact": True},
    }  # fmt: skip
    address = f"{V2}/resources/{made['id']}"
    patched = await client.patch(address, json={"title": "b"}, headers=bearer(**{"If-Match": '"1"'}))
    assert (patched.status, patched.headers["ETag"], (await patched.json())["title"]) == (200, '"2"', "b")
    assert (await client.delete(address, headers=bearer())).status == 204
    restored = await client.post(f"{address}/restore", headers=bearer())
    assert (restored.status, restored.headers["ETag"], (await restored.json())["version"]) == (200, '"4"', 4)
    history = await (await client.get(f"{address}/history", headers=bearer())).json()
    assert set(history) == {"data", "next_cursor"}


async def test_a_schema_that_is_not_satisfied_is_a_problem_by_paths(client: Client, bearer: Any) -> None:
    admin = bearer(ADMIN, Role.ADMIN)
    put = await client.put(f"{V2}/kinds/box", json={"schema": {"required": ["size"]}}, headers=admin)
    assert (put.status, put.headers["ETag"], (await put.json())["kind"]) == (200, '"1"', "box")
    answer = await client.post(f"{V2}/resources", json={"kind": "box", "title": "t"}, headers=bearer())
    body = await answer.json(content_type=None)
    problem_of(answer, body, 400, "VALIDATION_ERROR")
    assert [error["field"] for error in body["errors"]] == ["attributes.size"]


def problem_of(answer: Any, body: Any, status: int, code: str) -> None:
    assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert body["type"] == f"/problems/{code}"
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == answer.headers["X-Request-Id"]
    assert "success" not in body


async def test_a_problem_names_every_wrong_field_in_the_language_that_was_asked_for(
    client: Client, bearer: Any
) -> None:
    wrong = {"kind": "", "title": 5, "what": 1}
    answer = await client.post(f"{V2}/resources", json=wrong, headers=bearer(**{"Accept-Language": "ko"}))
    body = await answer.json(content_type=None)
    problem_of(answer, body, 400, "VALIDATION_ERROR")
    assert answer.headers["Content-Language"] == "ko"
    assert (body["title"], body["detail"]) == ("The input is not valid.", "입력값이 올바르지 않습니다.")
    assert {error["field"] for error in body["errors"]} == {"kind", "title", "what"}
    assert {error["code"] for error in body["errors"]} >= {"type", "unknown"}
    assert all(error["detail"] for error in body["errors"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("GET", "/nothing", {}, b"", 404, "NOT_FOUND"),
        ("PATCH", "/resources", {}, b"", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/auth/login", {"Content-Type": "text/plain"}, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/auth/login", {"Content-Type": "application/json"}, b"x" * 200_000, 413, "BODY_TOO_LARGE"),
        ("POST", "/resources", {"Content-Type": "application/json"}, b"{}", 401, "TOKEN_MISSING"),
    ],
)
async def test_what_no_handler_answers_is_dressed_by_the_version_of_its_address(
    client: Client, method: str, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    answer = await client.request(method, V2 + path, data=body or None, headers=headers)
    problem_of(answer, json.loads(await answer.read()), status, code)
    if status == 405:
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
    old = await (await client.request(method, V1 + path, data=body or None, headers=headers)).json()
    assert (old["success"], old["error"]["code"]) == (False, code)


async def test_the_same_is_hidden_from_the_same_people(client: Client, bearer: Any) -> None:
    made = await client.post(f"{V2}/resources", json=NOTE, headers=bearer())
    answer = await client.get(made.headers["Location"], headers=bearer(OTHER))
    problem_of(answer, await answer.json(content_type=None), 404, "NOT_FOUND")
    for headers, status in (({}, 401), (bearer(), 403), (bearer(ADMIN, Role.ADMIN), 200)):
        assert (await client.get(f"{V2}/dead-letters", headers=headers)).status == status


async def test_a_key_belongs_to_the_address_it_was_sent_to(client: Client, bearer: Any, fakes: Fakes) -> None:
    headers = bearer(**{"Idempotency-Key": "k"})
    first = await client.post(f"{V2}/resources", json=NOTE, headers=headers)
    again = await client.post(f"{V2}/resources", json=NOTE, headers=headers)
    assert (again.headers["Idempotency-Replayed"], again.headers["Location"]) == ("true", first.headers["Location"])
    other = await client.post(f"{V1}/resources", json=NOTE, headers=headers)
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.parametrize("code", Code)
async def test_the_type_of_a_problem_leads_to_what_it_means(client: Client, code: Code) -> None:
    about = await (await client.get(f"/problems/{code}")).json()
    assert about["code"] == code
    assert set(about["title"]) == {"en", "ko"}


async def test_a_problem_that_there_is_none_of(client: Client) -> None:
    for name in ("NOTHING", str(uuid4()), "%00"):
        assert (await client.get(f"/problems/{name}")).status == 404
