"""Pages of other origins: those on the list, letter by letter, and nobody who looks like them."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from config.shields import networks
from domain.access import Role
from tests.web.conftest import ADMIN, Client
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.routes import PLAIN

APP = "https://app.example.org"
PATH = "/api/v1/resources"


@pytest.fixture
async def front(fakes: Fakes) -> AsyncIterator[Client]:
    fakes.settings = msgspec.structs.replace(SETTINGS, cors_origins=(APP, "http://localhost:3000"))
    async with TestClient(TestServer(create(fakes.settings, fakes.open))) as opened:
        yield opened


def asks(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_page_on_the_list_may_ask_and_read(front: Client, version: str) -> None:
    path = f"/api/{version}/resources"
    said = await front.options(path, headers=asks(APP))
    assert (said.status, await said.read()) == (204, b"")
    assert said.headers["Access-Control-Allow-Origin"] == APP
    assert said.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST"
    allowed = said.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "content-type", "idempotency-key", "if-match"} <= set(allowed.split(", "))
    assert int(said.headers["Access-Control-Max-Age"]) > 600
    assert {"Origin", "Access-Control-Request-Method"} <= set(said.headers["Vary"].split(", "))
    for answer in (await front.get(path, headers={"Origin": APP}), await front.post(path, headers={"Origin": APP})):
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert {"ETag", "Location", "RateLimit", "RateLimit-Policy", "X-Request-Id", "Retry-After"} <= exposed
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "https://app.example.org.evil.example",
        "https://evil-app.example.org",
        "https://xapp.example.org",
        "https://app.example.org:8443",
        "https://app.example.org:443",
        "http://app.example.org",
        "https://APP.example.org",
        "https://app.example.org/",
        "https://app.example.org ,https://evil.example",
        "https://app.example.org%00.evil.example",
        "https://appXexample.org",
        "https://app.example.org@evil.example",
        "https://аpp.example.org",  # a Cyrillic letter
        "https://example.org",
        "http://localhost",
        "*",
        "",
    ],
)
async def test_who_only_looks_like_it_is_told_nothing(front: Client, origin: str) -> None:
    said = await front.options(PATH, headers=asks(origin))
    answer = await front.get(PATH, headers={"Origin": origin})
    assert (said.status, answer.status) == (405, 200)
    for one in (said, answer):
        assert not [name for name in one.headers if name.lower().startswith("access-control-")]
        # A cache must not give this one to a page that is on the list, nor that one's to this.
        assert "Origin" in one.headers["Vary"].split(", ")


async def test_two_origins_are_none(front: Client) -> None:
    headers = CIMultiDict([("Origin", APP), ("Origin", "https://evil.example")])
    answer = await front.get(PATH, headers=headers)
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_preflight_tells_of_no_address_that_is_not_there(front: Client) -> None:
    assert (await front.options("/api/v1/nothing", headers=asks(APP))).status == 404
    plain = await front.options(PATH, headers={"Origin": APP})  # no preflight: nothing is asked for
    assert plain.status == 405


async def test_errors_can_be_read_by_the_page_too(front: Client) -> None:
    answer = await front.post(PATH, json={}, headers={"Origin": APP})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, APP)


async def test_without_a_list_nobody_may(client: Client) -> None:
    said = await client.options(PATH, headers=asks(APP))
    answer = await client.get(PATH, headers={"Origin": APP})
    assert said.status == 405
    assert not [name for name in [*said.headers, *answer.headers] if name.lower().startswith("access-control-")]
    assert "Origin" not in answer.headers["Vary"]


@pytest.mark.parametrize("path", [path for _, path, _ in PLAIN] + [PATH, "/api/v2/resources", "/nothing"])
async def test_every_answer_has_its_shields(fakes: Fakes, path: str) -> None:
    fakes.settings = msgspec.structs.replace(SETTINGS, environment="production")
    async with TestClient(TestServer(create(fakes.settings, fakes.open))) as client:
        named = {"file": "page.js", "code": "NOT_FOUND"}
        answer = await client.get(path.format(**named))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Server"] == "yeoul"
        assert "X-Powered-By" not in answer.headers


async def test_admin_endpoints_are_not_there_for_those_who_call_from_elsewhere(fakes: Fakes, bearer: Any) -> None:
    fakes.settings = msgspec.structs.replace(
        SETTINGS, admin_networks=networks("198.51.100.0/24"), trusted_proxies=networks("127.0.0.1,::1")
    )
    async with TestClient(TestServer(create(fakes.settings, fakes.open))) as client:
        for path in (
            "/api/v1/dead-letters", "/api/v2/dead-letters", "/api/v1/dead-letters/1", "/api/v1/users", "/api/v2/users",
            f"/api/v1/users/{ADMIN}",
        ):  # fmt: skip
            callers: list[dict[str, str]] = [{}, bearer(), bearer(ADMIN, Role.ADMIN)]
            for headers in callers:
                for address in ("203.0.113.1", "198.51.100.1, 203.0.113.1", "nonsense"):
                    answer = await client.get(path, headers={**headers, "X-Forwarded-For": address})
                    assert answer.status == 404, (path, address)
        inside = {**bearer(ADMIN, Role.ADMIN), "X-Forwarded-For": "203.0.113.1, 198.51.100.1"}
        for path in ("/api/v1/dead-letters", "/api/v2/users"):
            assert (await client.get(path, headers=inside)).status == 200
        assert (await client.get("/api/v1/dead-letters", headers={"X-Forwarded-For": "198.51.100.1"})).status == 401
        # What everybody may call is there for admins from everywhere.
        assert (await client.get("/api/v1/resources", headers=bearer(ADMIN, Role.ADMIN))).status == 200
