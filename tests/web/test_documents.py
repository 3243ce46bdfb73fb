"""The documents of the API: every route is declared, they are served, and a test sees what they do not know."""

import json
import re
from typing import Any

import jsonschema_rs
import pytest

from domain.refusals import STATUS, Code
from tests import documented
from tests.web.conftest import Client
from web.documents import openapi, table
from web.documents.replies import HEADERS
from web.routes import API, PLAIN

VERSIONS = ("v1", "v2")


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def operations(version: str) -> list[Any]:
    return [operation for item in openapi.document(version)["paths"].values() for operation in item.values()]


def test_every_route_is_declared_and_nothing_else() -> None:
    assert {f"{method} {path}" for method, path, _, _ in API} == set(table.API)
    assert {f"{method} {path}" for method, path, _ in PLAIN} == {*table.PLAIN, *table.PAGES}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_reference_leads_somewhere_and_every_part_is_referred_to(version: str) -> None:
    document = openapi.document(version)
    found = references(document)
    for kind in ("schemas", "responses", "headers", "parameters"):
        there = {f"#/components/{kind}/{name}" for name in document["components"][kind]}
        assert {ref for ref in found if ref.startswith(f"#/components/{kind}/")} == there


@pytest.mark.parametrize("version", VERSIONS)
def test_operations_have_names_of_their_own_and_links_lead_to_them(version: str) -> None:
    names = [operation["operationId"] for operation in operations(version)]
    assert len(set(names)) == len(names) > 30
    linked = {
        link["operationId"]
        for operation in operations(version)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert linked
    assert linked <= set(names)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_code_is_explained_and_those_of_an_operation_stand_at_its_status(version: str) -> None:
    components = openapi.document(version)["components"]
    code = components["schemas"]["Code"]
    assert code["enum"] == list(Code)
    assert all(f"`{name}` ({STATUS[name]})" in code["description"] for name in Code)
    never = {Code.METHOD_NOT_ALLOWED, Code.METHOD_UNKNOWN}  # answered where there is no operation
    together = [name.removesuffix(".bare").split(".") for name in components["responses"]]
    assert {code for codes in together for code in codes} == set(Code) - never
    for codes in together:
        assert len({STATUS[Code(one)] for one in codes}) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_bodies_have_examples_that_their_schemas_take(version: str) -> None:
    components = {"components": openapi.document(version)["components"]}
    bodies = [operation["requestBody"] for operation in operations(version) if "requestBody" in operation]
    assert len(bodies) > 10
    for body in bodies:
        for content in body["content"].values():
            jsonschema_rs.Draft202012Validator({**content["schema"], **components}).validate(content["example"])


async def test_they_are_served_and_kept(client: Client) -> None:
    for path in ("/api/v1/openapi.json", "/api/v2/openapi.json", "/api/asyncapi.json"):
        answer = await client.get(path)
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["Cache-Control"] == "public, no-cache"
        document = await answer.json()
        assert document.get("openapi", document.get("asyncapi")).startswith("3.")
        again = await client.get(path, headers={"If-None-Match": f'"x", W/{answer.headers["ETag"]}'})
        assert (again.status, await again.read()) == (304, b"")
        assert (await client.get(path, headers={"If-None-Match": '"x"'})).status == 200


def test_both_versions_differ_in_their_dress_only() -> None:
    first, second = ({re.sub("^/api/v[12]", "", path): set(item) for path, item in openapi.document(v)["paths"].items()}
                     for v in VERSIONS)  # fmt: skip
    assert first == second
    assert {one["operationId"] for one in operations("v1")} == {one["operationId"] for one in operations("v2")}


ERROR = {
    "success": False,
    "error": {"code": "NOT_FOUND", "message": "x"},
    "meta": {"timestamp": "2026-11-23T08:44:38Z", "version": "1.0"},
}
ID = "/api/v1/resources/85d27642-c9df-80da-9ed1-73ee48b3b84d"
GOOD = {"Content-Type": "application/json; charset=utf-8", "X-Request-Id": "r"}


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body"),
    [
        ("GET", ID, 418, GOOD, ERROR),
        ("GET", ID, 404, {**GOOD, "Content-Type": "text/plain"}, ERROR),
        ("GET", ID, 404, {"Content-Type": "application/json"}, ERROR),
        ("GET", ID, 404, GOOD, {**ERROR, "more": 1}),
        ("GET", ID, 404, GOOD, {**ERROR, "error": {"code": "STALE_VERSION", "message": "x"}}),
        ("GET", ID, 404, GOOD, {**ERROR, "meta": {"timestamp": "yesterday", "version": "1.0"}}),
        ("GET", ID, 404, {**GOOD, "ETag": '"1"'}, ERROR),
        ("GET", ID, 200, {**GOOD, "ETag": '"1"'}, {**ERROR, "success": True}),
        ("GET", ID.replace("v1", "v2"), 404, GOOD, ERROR),
        ("DELETE", ID, 204, {"X-Request-Id": "r"}, ERROR),
        ("GET", "/api/v1/resources", 429, GOOD, {**ERROR, "error": {"code": "TOO_MANY_REQUESTS", "message": "x"}}),
        ("PUT", "/api/v1/nothing", 404, GOOD, {"detail": "not found"}),
        ("TRACE", ID, 405, GOOD, {**ERROR, "error": {"code": "METHOD_NOT_ALLOWED", "message": "x"}}),
    ],
)
def test_what_no_document_knows_is_seen(method: str, path: str, status: int, headers: Any, body: Any) -> None:
    documented.check("GET", ID, 404, GOOD, json.dumps(ERROR).encode())
    with pytest.raises(documented.Undocumented):
        documented.check(method, path, status, headers, json.dumps(body).encode())


async def test_what_a_test_asks_is_checked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        openapi.document("v1")["paths"]["/api/v1/analytics"]["get"]["responses"], "200", {"description": ""}
    )
    with pytest.raises(documented.Undocumented):
        await client.get("/api/v1/analytics")


def test_the_headers_of_an_answer_to_a_page_elsewhere_can_be_read_there() -> None:
    from web.cors import EXPOSED

    private = {"X-Request-Id", "Content-Language", "WWW-Authenticate", "Accept", "Accept-Encoding", "RateLimit-Policy"}
    assert set(HEADERS) - private <= set(EXPOSED.split(", "))
