"""What every request gets: an id, headers, metrics; and the health of the process."""

import gzip
import io
import json
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from telemetry.logs import Json
from tests.web.conftest import Client
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.middlewares import endpoint
from web.parts import ACCESS
from web.permissions import may, signed_in
from web.presenters import Reply, language_of

PATH = "/api/v1/resources"


async def test_every_answer_says_how_to_treat_it(client: Client, bearer: Any) -> None:
    for path in (PATH, "/nothing", "/livez", "/api/v1/operations/x"):
        answer = await client.get(path)
        assert answer.headers["Server"] == "yeoul"
        assert answer.headers["X-Request-Id"]
        assert "Strict-Transport-Security" not in answer.headers
        if path != "/livez":
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.fixture
async def production(fakes: Fakes) -> AsyncIterator[Client]:
    there = msgspec.structs.replace(SETTINGS, environment="production", language="ko")
    async with TestClient(TestServer(create(there, fakes.open))) as opened:
        yield opened


async def test_other_environments_ask_for_https_and_settings_for_a_language(production: Client) -> None:
    answer = await production.get("/nothing")
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    assert answer.headers["Content-Language"] == "ko"
    assert (await answer.json())["error"]["message"] == "찾을 수 없습니다."


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        ("abc-1._X", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("a;b", False),
        ("é", False),
        ("-", False),
    ],
)
async def test_request_ids(client: Client, given_id: str, kept: bool) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": given_id})
    assert (answer.headers["X-Request-Id"] == given_id) is kept


async def test_ids_and_traces_go_along_with_the_command(client: Client, bearer: Any, fakes: Fakes) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    headers = bearer(**{"X-Request-Id": "mine", "traceparent": trace})
    await client.post(PATH, json={"kind": "a", "title": "b"}, headers=headers)
    assert (fakes.commands.submitted[0].request_id, fakes.commands.submitted[0].traceparent) == ("mine", trace)
    for wrong in ("00-" + "0" * 32 + "-" + "b" * 16 + "-01", "ff" + trace[2:], trace.upper(), trace + "0", "x"):
        await client.post(PATH, json={"kind": "a", "title": "b"}, headers=bearer(traceparent=wrong))
        assert fakes.commands.submitted[-1].traceparent is None


async def test_a_client_may_wait_to_be_asked_for_its_body(fakes: Fakes, bearer: Any) -> None:
    async with TestClient(TestServer(create(SETTINGS, fakes.open))) as one:
        one.session.connector._limit = 1  # type: ignore[union-attr]
        for title in "ab":
            answer = await one.post(PATH, json={"kind": "a", "title": title}, headers=bearer(), expect100=True)
            assert (answer.status, (await answer.json())["data"]["title"]) == (201, title)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_may_be_packed(client: Client, bearer: Any, encoding: str, pack: Any) -> None:
    headers = bearer(**{"Content-Type": "application/json", "Content-Encoding": encoding})
    answer = await client.post(PATH, data=pack(b'{"kind": "a", "title": "b"}'), headers=headers)
    assert (answer.status, (await answer.json())["data"]["title"]) == (201, "b")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("0.1", 0.1),
        ("1.0", 1.0),
        ("1e2", 100.0),
        ("1e-400", 0.0),
        ("-5e-324", -5e-324),
        ("0.1234567890123456789", 0.12345678901234568),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("9223372036854775807", 9223372036854775807),
    ],
)
async def test_numbers_are_kept_as_doubles_or_as_64_bits(client: Client, bearer: Any, sent: str, kept: float) -> None:
    body = '{"kind": "a", "title": "b", "attributes": {"n": ' + sent + "}}"
    answer = await client.post(PATH, data=body, headers=bearer(**{"Content-Type": "application/json"}))
    number = (await answer.json())["data"]["attributes"]["n"]
    assert (answer.status, number, type(number)) == (201, kept, type(kept))


async def test_head_is_get_without_its_body(client: Client) -> None:
    answer = await client.head(PATH)
    assert (answer.status, await answer.read()) == (200, b"")


async def test_requests_are_counted_by_template_and_never_by_address(client: Client) -> None:
    def count(route: str, status: str) -> float:
        labels = {"method": "GET", "route": route, "status": status}
        return REGISTRY.get_sample_value("yeoul_http_request_seconds_count", labels) or 0.0

    before = count("/api/v1/resources/{id}", "4xx"), count("unmatched", "4xx")
    await client.get(f"{PATH}/1")
    await client.get(f"{PATH}/2")
    await client.get("/wp-admin")
    assert (count("/api/v1/resources/{id}", "4xx"), count("unmatched", "4xx")) == (before[0] + 2, before[1] + 1)


async def test_the_access_line_says_nothing_personal(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json("web"))
    handler.addFilter(logging.Filter("yeoul.web"))  # what a test before left to be collected may speak at any time
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, handler])
    with caplog.at_level(logging.INFO, "yeoul.web"):
        body = {"email": "han@example.org", "password": "secret password"}
        headers = {"X-Request-Id": "mine"}
        await client.post("/api/v1/auth/login?q=han@example.org", json=body, headers=headers)
        assert client.app is not None
        client.app[ACCESS].flush()
    written = json.loads(stream.getvalue())
    ordinary = json.loads(Json("web").format(next(r for r in caplog.records if r.name == "yeoul.web")))
    assert {**written, "time": ""} == {**ordinary, "time": ""}
    assert written["request"] == "mine"
    assert "han" not in stream.getvalue().replace("handle", "")
    (line,) = [record for record in caplog.records if record.name == "yeoul.web"]
    fields = line.__dict__["fields"]
    assert line.getMessage() == "POST /api/v1/auth/login 400"
    assert set(fields) == {"request", "status", "ms"}
    assert "han" not in str(line.__dict__)


async def test_ready_names_every_dependency(client: Client, fakes: Fakes) -> None:
    async def ask() -> tuple[int, dict[str, Any]]:
        answer = await client.get("/readyz")
        return answer.status, await answer.json()

    fakes.commands.state = "not reached yet"
    assert await ask() == (503, {"ready": False, "kafka": "away", "postgres": "ok", "redis": "ok"})
    fakes.commands.state = "ok"
    assert await ask() == (200, {"ready": True, "kafka": "ok", "postgres": "ok", "redis": "ok"})
    fakes.stores.states = {"postgres": "away", "redis": "away"}
    assert (await ask())[0] == 200  # writes still go
    fakes.commands.state = "away"
    assert await ask() == (503, {"ready": False, "kafka": "away", "postgres": "away", "redis": "away"})
    assert (await client.get("/livez")).status == 200


async def test_ready_shows_everybody_a_word_and_the_log_the_reason_once(
    client: Client, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    refused = 'waits for an operator: password authentication failed for user "marker" at marker.internal'
    with caplog.at_level(logging.INFO, "yeoul.web.health"):
        for kafka, postgres in (
            ("[Errno 111] Connect call failed ('marker.internal', 9092)", "PostgreSQL is away: marker.internal"),
            ("[Errno 111] Connect call failed ('other.internal', 9092)", "no answer within 2 s"),
            ("ok", refused),
            ("ok", refused),
            ("ok", "okay at marker.internal"),
        ):
            fakes.commands.state = kafka
            fakes.stores.states = {"postgres": postgres, "redis": "ok"}
            shown = await (await client.get("/readyz")).json()
            assert "internal" not in str(shown)
            assert shown["kafka"] == ("ok" if kafka == "ok" else "away")
    said = [record.getMessage() for record in caplog.records if record.name == "yeoul.web.health"]
    assert said == [
        "kafka is not ready: [Errno 111] Connect call failed ('marker.internal', 9092)",
        "postgres is not ready: PostgreSQL is away: marker.internal",
        "postgres is not ready: no answer within 2 s",
        "kafka is ready",
        f"postgres is not ready: {refused}",
        "postgres is not ready: okay at marker.internal",
    ]


async def test_scopes_are_asked_by_the_decorators(client: Client, bearer: Any, fakes: Fakes) -> None:
    from aiohttp import web

    async def handler(_: web.Request) -> Reply:
        return Reply(b"{}")

    app = create(SETTINGS, fakes.open)
    app.router.add_get("/admin", endpoint(may("admin")(handler), authenticated=True))
    app.router.add_get("/me", endpoint(signed_in(handler), authenticated=True))
    async with TestClient(TestServer(app)) as opened:
        assert (await opened.get("/admin")).status == 401
        assert (await opened.get("/admin", headers=bearer())).status == 403
        assert (await opened.get("/me", headers=bearer())).status == 200
        assert (await opened.get("/me")).status == 401


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "en"), ("ko", "ko"), ("KO-kr", "ko"), ("en;q=0.1,ko;q=0.2", "ko"), ("ko;q=0", "en"), ("*", "en"),
        ("de,ko;q=x", "en"), (";;,,", "en"),
    ],
)  # fmt: skip
def test_languages(accept: str | None, language: str) -> None:
    assert language_of(accept, "en") == language


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=60)
    | st.dictionaries(st.text(max_size=5), st.integers()).map(lambda v: json.dumps(v).encode())
)
async def test_no_body_whatever_is_answered_with_a_500(client: Client, bearer: Any, body: bytes) -> None:
    headers = bearer(**{"Content-Type": "application/json"})
    for path in (PATH, "/api/v1/auth/login", "/api/v1/auth/register"):
        answer = await client.post(path, data=body, headers=headers)
        assert answer.status == 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.text(max_size=8) | st.sampled_from(["limit", "sort", "cursor", "filter[kind]"]), st.text(max_size=8)
    )
)
async def test_no_query_whatever_is_answered_with_a_500(client: Client, query: dict[str, str]) -> None:
    safe = {name: value for name, value in query.items() if (name + value).isprintable()}
    assert (await client.get(PATH, params=safe)).status in (200, 400)
