"""Everything that may be wrong with a request, at every writing endpoint.

Refused by the right status, every wrong field named, nothing on its way to a topic, and never a 500.
"""

import gzip
import io
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from domain.refusals import Refusal
from tests.web.conftest import Client
from web import resources
from web.auth import LOGIN, LONGEST_BODY, REGISTRATION
from web.refused import Refused
from web.validation import Parsed, Schema

pytestmark = pytest.mark.usefixtures("nothing_gets_through")

JSON = {"Content-Type": "application/json"}
RESOURCE = {"kind": "note", "title": "t"}
GOOD: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/resources"): RESOURCE,
    ("PUT", f"/api/v1/resources/{UUID(int=5)}"): RESOURCE,
    ("POST", "/api/v1/auth/register"): {"email": "a@example.org", "password": "long enough"},
    ("POST", "/api/v1/auth/login"): {"email": "a@example.org", "password": "long enough"},
}
ENDPOINTS = pytest.mark.parametrize(("method", "path"), GOOD, ids=[f"{m} {p[8:26]}" for m, p in GOOD])
GUARDED = [endpoint for endpoint in GOOD if "auth" not in endpoint[1]] + [
    ("DELETE", f"/api/v1/resources/{UUID(int=5)}")
]


async def refused(answer: Any, status: int, code: str) -> list[str]:
    """Checks the envelope; the fields that it names."""
    assert answer.status == status, await answer.text()
    shown = await answer.json()
    assert shown["success"] is False
    assert shown["meta"]["version"] == "1.0"
    assert shown["error"]["code"] == code
    assert shown["error"]["message"]
    assert answer.headers["X-Request-Id"]
    assert all(detail["message"] for detail in shown["error"].get("details", []))
    return [detail["field"] for detail in shown["error"].get("details", [])]


def members(method: str, path: str, text: str) -> bytes:
    """The good body of an endpoint with more members, in the spelling given."""
    return (json.dumps(GOOD[method, path])[:-1] + ", " + text + "}").encode()


BODIES: dict[str, tuple[bytes, str]] = {
    "no body": (b"", "MALFORMED_BODY"),
    "no JSON": (b"{", "MALFORMED_BODY"),
    "two documents": (b"{} {}", "MALFORMED_BODY"),
    "a trailing comma": (b'{"a": 1,}', "MALFORMED_BODY"),
    "NaN": (b'{"a": NaN}', "MALFORMED_BODY"),
    "Infinity": (b'{"a": -Infinity}', "MALFORMED_BODY"),
    "invalid UTF-8": (b'{"kind": "\xff"}', "MALFORMED_BODY"),
    "UTF-16": ("﻿{}".encode("utf-16-le"), "MALFORMED_BODY"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "MALFORMED_BODY"),
    "a raw NUL": (b'{"kind": "\x00"}', "MALFORMED_BODY"),
    "null": (b"null", "VALIDATION_ERROR"),
    "a list": (b"[{}]", "VALIDATION_ERROR"),
    "a string that never ends": (b'{"kind": "' + b'\\"' * 60_000, "MALFORMED_BODY"),
    "a string that never ends, with brackets": (b'{"kind": "' + b'[\\"' * 40_000, "MALFORMED_BODY"),
    "a number": (b"1", "VALIDATION_ERROR"),
    "a huge number": (b"1" * 10_000, "VALIDATION_ERROR"),
    "lists 10,000 deep": (b"[" * 10_000 + b"]" * 10_000, "VALIDATION_ERROR"),
    "objects 10,000 deep": (b'{"kind":' * 10_000 + b"1" + b"}" * 10_000, "VALIDATION_ERROR"),
    "open lists 500,000 deep": (b"[" * 500_000, "VALIDATION_ERROR"),
}


@ENDPOINTS
@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_are_none(client: Client, bearer: Any, method: str, path: str, name: str) -> None:
    body, code = BODIES[name]
    answer = await client.request(method, path, data=body, headers=bearer(**JSON))
    if "auth" in path and len(body) > LONGEST_BODY:
        await refused(answer, 413, "BODY_TOO_LARGE")
        return
    named = await refused(answer, 400, code)
    assert named == (["kind"] if name.startswith("objects") else ["$"])


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "is not JSON from line 1, column 1 on"),
        (b'{"kind": "note",\n "title" "marker"}', "is not JSON from line 2, column 10 on"),
        (b'{"kind": "marker",\n\n "title": NaN}', "is not JSON from line 3, column 11 on"),
        (b'{"kind": -Infinity}', "is not JSON from line 1, column 11 on"),
        (b'{"kind": "\xff"}', "is not UTF-8 from byte 11 on"),
        ('{"여울": 여}'.encode(), "is not JSON from line 1, column 8 on"),
    ],
)
async def test_where_a_body_stops_to_be_json(client: Client, bearer: Any, body: bytes, where: str) -> None:
    answer = await client.post("/api/v1/resources", data=body, headers=bearer(**JSON))
    assert await refused(answer, 400, "MALFORMED_BODY") == ["$"]
    assert (await answer.json())["error"]["details"][0]["message"] == where
    assert "marker" not in await answer.text()


@pytest.mark.parametrize(
    ("number", "within"),
    [
        ("1e400", "1.7976931348623157e308"),
        ("-1e309", "1.7976931348623157e308"),
        ("9223372036854775808", "9223372036854775807"),
        ("99999999999999999999", "9223372036854775807"),
        ("-" + "9" * 400, "9223372036854775807"),
    ],
)
async def test_a_number_that_can_not_be_kept_is_told_its_range(
    client: Client, bearer: Any, number: str, within: str
) -> None:
    body = members("POST", "/api/v1/resources", f'"attributes": {{"a": [{number}]}}')
    answer = await client.post("/api/v1/resources", data=body, headers=bearer(**JSON))
    assert await refused(answer, 400, "VALIDATION_ERROR") == ["attributes.a[0]"]
    assert (await answer.json())["error"]["details"][0]["message"].endswith(f"…{within}")


@ENDPOINTS
async def test_a_body_that_is_missing_altogether(client: Client, bearer: Any, method: str, path: str) -> None:
    await refused(await client.request(method, path, headers=bearer()), 400, "MALFORMED_BODY")


@ENDPOINTS
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset=utf-16", "x"],
)
async def test_another_content_type(client: Client, bearer: Any, method: str, path: str, kind: str) -> None:
    answer = await client.request(method, path, data=b"{}", headers=bearer(**{"Content-Type": kind}))
    await refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@ENDPOINTS
@pytest.mark.parametrize("chunked", [False, True])
async def test_ten_megabytes(client: Client, bearer: Any, method: str, path: str, chunked: bool) -> None:
    async def chunks() -> Any:
        for _ in range(160):
            yield b"x" * 65_536

    try:
        answer = await client.request(
            method, path, data=chunks() if chunked else io.BytesIO(b"x" * 10_485_760), headers=bearer(**JSON)
        )
    except (ConnectionError, OSError):  # pragma: no cover (the front may close while the client still sends)
        pytest.fail("the answer got lost")
    await refused(answer, 413, "BODY_TOO_LARGE")


@ENDPOINTS
async def test_unknown_and_repeated_members_at_once(client: Client, bearer: Any, method: str, path: str) -> None:
    first = next(iter(GOOD[method, path]))
    body = members(method, path, f'"nope": 1, "\\u006eope2": {{}}, "{first}": "again"')
    answer = await client.request(method, path, data=body, headers=bearer(**JSON))
    assert set(await refused(answer, 400, "VALIDATION_ERROR")) == {first, "nope", "nope2"}


@ENDPOINTS
@pytest.mark.parametrize(
    "value", ["1", "null", "true", "[]", "{}", '"a\\u0000b"', '"\\ud800"', '""', "1e999", "9" * 40]
)
async def test_wrong_values_of_every_required_member(
    client: Client, bearer: Any, method: str, path: str, value: str
) -> None:
    names = list(GOOD[method, path])
    body = "{" + ", ".join(f'"{name}": {value}' for name in names) + "}"
    answer = await client.request(method, path, data=body.encode(), headers=bearer(**JSON))
    assert await refused(answer, 400, "VALIDATION_ERROR") == names


@ENDPOINTS
async def test_missing_members(client: Client, bearer: Any, method: str, path: str) -> None:
    answer = await client.request(method, path, data=b"{}", headers=bearer(**JSON))
    assert await refused(answer, 400, "VALIDATION_ERROR") == list(GOOD[method, path])


RESOURCES = pytest.mark.parametrize(("method", "path"), [endpoint for endpoint in GOOD if "resources" in endpoint[1]])


@RESOURCES
@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('"tags": ["a", 1, "", "b", null]', ["tags[1]", "tags[2]", "tags[4]"]),
        ('"tags": "a"', ["tags"]),
        ('"tags": ' + json.dumps(["x"] * 33), ["tags"]),
        ('"tags": ["' + "x" * 65 + '", "\\u0000"]', ["tags[0]", "tags[1]"]),
        ('"tags": ' + json.dumps(["", *["a"] * 40, 1]), ["tags", "tags[0]", "tags[41]"]),
        ('"tags": [' + '"a",' * 200_000 + "1]", ["tags"]),
        ('"attributes": []', ["attributes"]),
        ('"attributes": ' + json.dumps({str(i): i for i in range(256)} | {"a": "\0"}), ["attributes", "attributes.a"]),
        (
            '"attributes": {"a": 9223372036854775808, "b": -9223372036854775809, "c": 1e400}',
            ["attributes.a", "attributes.b", "attributes.c"],
        ),
        ('"attributes": {"a": [{"b": "\\u0000"}, {"c": "\\udfff"}]}', ["attributes.a[0].b", "attributes.a[1].c"]),
        ('"attributes": {"a": {"b": 1, "b": 2}, "a2": 1}', ["attributes.a.b"]),
        ('"attributes": {"a": 1, "\\u0061": 1}', ["attributes.a"]),
        ('"attributes": {"a": 1, "a": "\\u003a"}', ["attributes.a"]),
        ('"attributes": {"a": 1, "a": ":"}', ["attributes.a"]),
        ('"attributes": {"a:b": 1, "a:b": 1e5}', ["attributes.a:b"]),
        ('"attributes": {"\\u0000": 1}', ["attributes.\\x00"]),
        ('"attributes": ' + '{"a":' * 64 + "1" + "}" * 64, ["attributes"]),
        ('"attributes": {"a": [' + "0," * 10_001 + '0]}', ["attributes"]),
        ('"attributes": {"a": [' + "[0,0]," * 5_000 + '0]}', ["attributes"]),
        ('"visibility": "secret"', ["visibility"]),
        ('"visibility": 1', ["visibility"]),
        ('"visibility": {}', ["visibility"]),
        ('"status": "A B"', ["status"]),
        ('"status": "a\\n"', ["status"]),
        ('"body": "' + "x" * 100_001 + '"', ["body"]),
        ('"id": "x", "owner_id": "x", "version": 1', ["id", "owner_id", "version"]),
        ('"tags": [1], "status": 1, "more": 1, "body": null', ["more", "body", "tags[0]", "status"]),
    ],
)  # fmt: skip
async def test_every_wrong_field_is_named_by_its_path(
    client: Client, bearer: Any, method: str, path: str, text: str, fields: list[str]
) -> None:
    answer = await client.request(method, path, data=members(method, path, text), headers=bearer(**JSON))
    assert sorted(await refused(answer, 400, "VALIDATION_ERROR")) == sorted(fields)


async def test_wrong_fields_of_a_registration(client: Client) -> None:
    body = {"email": "a b@c", "password": "short", "name": "x" * 101, "phone": "call me", "role": "admin"}
    answer = await client.post("/api/v1/auth/register", json=body)
    fields = await refused(answer, 400, "VALIDATION_ERROR")
    assert sorted(fields) == ["email", "name", "password", "phone", "role"]


@pytest.mark.parametrize("sign", [" ", "\x85", "\x9f", "\u2028", "\ufeff", "@"], ids=ascii)
async def test_signs_that_no_address_has(client: Client, sign: str) -> None:
    for email in (f"a{sign}b@example.org", f"a@exam{sign}ple.org", f"a@example.o{sign}rg"):
        answer = await client.post("/api/v1/auth/register", json={"email": email, "password": "long enough"})
        assert list(await refused(answer, 400, "VALIDATION_ERROR")) == ["email"]


@RESOURCES
async def test_wrong_headers_and_fields_are_named_together(client: Client, bearer: Any, method: str, path: str) -> None:
    wrong = {"Idempotency-Key": "", **({"If-Match": "5", "If-None-Match": "*"} if method == "PUT" else {})}
    answer = await client.request(method, path, json={"kind": 5}, headers=bearer(**wrong))
    assert set(await refused(answer, 400, "VALIDATION_ERROR")) == {*wrong, "kind", "title"}
    answer = await client.request(method, path, json=RESOURCE, headers=bearer(**wrong))
    assert set(await refused(answer, 400, "VALIDATION_ERROR")) == {*wrong}


async def test_wrong_headers_of_a_delete_are_named_together(client: Client, bearer: Any) -> None:
    wrong = {"Idempotency-Key": "", "If-Match": "5", "If-None-Match": '"5"'}
    answer = await client.delete(f"/api/v1/resources/{UUID(int=5)}", headers=bearer(**wrong))
    assert set(await refused(answer, 400, "VALIDATION_ERROR")) == {*wrong}


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        (method, path, name)
        for method, path in GUARDED
        for name in ("Authorization", "Idempotency-Key", *(() if method == "POST" else ("If-Match",)))
    ],
)
async def test_headers_that_are_there_twice(client: Client, bearer: Any, method: str, path: str, name: str) -> None:
    given = CIMultiDict(bearer())
    given.setdefault(name, '"1"')
    given.add(name, given[name])
    answer = await client.request(method, path, json=RESOURCE, headers=given)
    assert await refused(answer, 400, "VALIDATION_ERROR") == [name]


async def test_details_are_bounded(client: Client, bearer: Any) -> None:
    body = {**RESOURCE, **{f"x{i}": i for i in range(5000)}}
    answer = await client.post("/api/v1/resources", json=body, headers=bearer())
    assert len(await refused(answer, 400, "VALIDATION_ERROR")) == 100


async def test_sentences_come_in_the_language_asked_for(client: Client, bearer: Any) -> None:
    for accept, word in (
        ("ko-KR,ko;q=0.9,en;q=0.8", "입력값"),
        ("fr, en;q=0.5, ko;q=0.1", "input"),
        ("fr", "input"),
        ("", "input"),
    ):
        answer = await client.post("/api/v1/resources", json={}, headers=bearer(**{"Accept-Language": accept}))
        assert word in (await answer.json())["error"]["message"], accept


async def test_addresses_and_methods_that_are_none(client: Client) -> None:
    await refused(await client.get("/api/v1/nothing"), 404, "NOT_FOUND")
    await refused(await client.get("/nothing"), 404, "NOT_FOUND")
    await refused(await client.get("/%ff%fe"), 404, "NOT_FOUND")
    answer = await client.patch("/api/v1/resources")
    await refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(("path", "most"), [("/api/v1/resources", 1_048_576), ("/api/v1/auth/login", LONGEST_BODY)])
@pytest.mark.parametrize("packed", [False, True])
async def test_what_is_too_large_is_told_the_limit(
    client: Client, bearer: Any, path: str, most: int, packed: bool
) -> None:
    body = b" " * 2_000_000
    unpacked = {"Content-Encoding": "gzip"} if packed else {}
    data = gzip.compress(body) if packed else body
    answer = await client.post(path, data=io.BytesIO(data), headers=bearer(**JSON, **unpacked))
    assert answer.status == 413
    (detail,) = (await answer.json())["error"]["details"]
    assert detail == {"field": "$", "message": f"must not be longer than {most} bytes"}


async def test_a_body_packed_so_that_it_explodes(client: Client, bearer: Any) -> None:
    packed = gzip.compress(b" " * 50_000_000)
    answer = await client.post("/api/v1/resources", data=packed, headers=bearer(**JSON, **{"Content-Encoding": "gzip"}))
    await refused(answer, 413, "BODY_TOO_LARGE")


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
)
NAMES = st.sampled_from(
    ["kind", "title", "tags", "attributes", "visibility", "status", "body", "email", "password", "phone", "x"]
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(NAMES, json_values).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(NAMES, json_values).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    ),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies, st.sampled_from(sorted(GOOD)))
def test_no_body_whatever_is_an_error_of_ours(body: bytes, endpoint: tuple[str, str]) -> None:
    schemas: dict[str, Schema[Any]] = {"auth/login": LOGIN, "auth/register": REGISTRATION}
    schema = schemas.get(endpoint[1][8:], resources.BODY)
    no, parsed = outcome(schema, body)
    if parsed is not None:
        assert json.loads(parsed.canonical) == json.loads(body)
        return
    assert no is not None
    assert no.status == 400
    assert no.details or no.code == "MALFORMED_BODY"
    json.dumps([detail.field for detail in no.details], ensure_ascii=False).encode()


def outcome(schema: Schema[Any], body: bytes) -> tuple[Refusal | None, Parsed[Any] | None]:
    try:
        return None, schema.read(body)
    except Refused as no:
        return no.refusal, None
