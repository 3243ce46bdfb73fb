"""Trace context and ids around a request: what the command gets, what the line of the log says, what is exported."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY

from config import Settings
from telemetry import spans, tracing
from tests.telemetry.listeners import Listener, listening
from tests.web.conftest import OWNER, Client
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.parts import ACCESS

PATH = "/api/v1/resources"
NOTE = {"kind": "note", "title": "kim@example.org"}
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(spans, "CLOSE_S", 30.0)  # a slow machine loses none here
    with listening() as listener:
        tracing.configure(Settings(otlp_endpoint=f"http://{listener.address}"), "web")
        try:
            yield listener
        finally:
            tracing.close()


@pytest.fixture
async def traced(collector: Listener, fakes: Fakes) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create(SETTINGS, fakes.open))) as opened:
        yield opened


def written(client: Client, lines: io.StringIO) -> dict[str, Any]:
    assert client.app is not None
    client.app[ACCESS].flush()
    line: dict[str, Any] = json.loads(lines.getvalue().splitlines()[-1])
    return line


async def test_a_line_names_user_operation_and_trace(
    client: Client, bearer: Any, fakes: Fakes, lines: io.StringIO
) -> None:
    await client.post(PATH, json=NOTE, headers=bearer(traceparent=TRACE, tracestate="vendor=1"))
    line = written(client, lines)
    (order,) = fakes.commands.submitted
    assert (line["user"], line["operation"]) == (str(OWNER), str(order.operation))
    assert (line["trace_id"], line["span_id"]) == ("a" * 32, "b" * 16)
    assert (order.traceparent, order.tracestate) == (TRACE, "vendor=1")
    assert "kim" not in lines.getvalue()


async def test_a_request_that_fails_is_found_by_its_trace(
    client: Client, bearer: Any, fakes: Fakes, lines: io.StringIO
) -> None:
    fakes.commands.raises = RuntimeError("a defect")
    answer = await client.post(PATH, json=NOTE, headers=bearer(traceparent=TRACE, **{"X-Request-Id": "mine"}))
    assert answer.status == 500
    failed = next(line for line in map(json.loads, lines.getvalue().splitlines()) if line["level"] == "error")
    assert (failed["request"], failed["trace_id"]) == ("mine", "a" * 32)
    assert "operation" in failed


async def test_two_contexts_are_none(client: Client, bearer: Any, fakes: Fakes) -> None:
    headers = [*bearer().items(), ("traceparent", TRACE), ("traceparent", TRACE)]
    await client.post(PATH, json=NOTE, headers=headers)
    assert fakes.commands.submitted[-1].traceparent is None


async def test_a_request_is_a_span_of_its_route(
    traced: Client, collector: Listener, bearer: Any, fakes: Fakes, lines: io.StringIO
) -> None:
    await traced.post(PATH, json=NOTE, headers=bearer(traceparent=TRACE, tracestate="vendor=1"))
    line = written(traced, lines)
    order = fakes.commands.submitted[-1]
    await traced.get(f"{PATH}/{order.aggregate_id}?q=kim@example.org", headers=bearer())
    await traced.get("/wp-admin/kim")
    fakes.commands.raises = RuntimeError("of kim's own")
    await traced.post(PATH, json=NOTE, headers=bearer())
    tracing.close()
    made, read, unknown, failed = collector.spans()
    assert (made["name"], made["trace"], made["parent"]) == (f"POST {PATH}", "a" * 32, "b" * 16)
    assert order.traceparent == f"00-{'a' * 32}-{made['id']}-01"
    assert (line["trace_id"], line["span_id"]) == (made["trace"], made["id"])
    assert (made["http.request.method"], made["http.route"], made["http.response.status_code"]) == ("POST", PATH, 201)
    assert (read["name"], read["parent"]) == (f"GET {PATH}/{{id}}", "")
    assert (unknown["name"], unknown["http.response.status_code"], "http.route" in unknown) == ("GET", 404, False)
    assert (failed["failed"], failed["error.type"], read["failed"]) == (True, "500", False)
    words = (b"kim@example", b"wp-admin/kim", b"kim's own")
    assert [word for word in words for _, _, body in collector.requests if word in body] == []


async def test_requests_are_counted_by_the_templates_of_routes_and_classes_of_status(
    client: Client, bearer: Any
) -> None:
    def count(route: str, status: str) -> float:
        labels = {"method": "GET", "route": route, "status": status}
        return REGISTRY.get_sample_value("yeoul_http_request_seconds_count", labels) or 0.0

    def routes() -> set[str]:
        (family,) = [family for family in REGISTRY.collect() if family.name == "yeoul_http_request_seconds"]
        return {sample.labels["route"] for sample in family.samples}

    one = "/api/v1/resources/{id}"
    others = routes()  # of the applications of other tests
    before = count(one, "4xx"), count("unmatched", "4xx")
    for number in range(3):
        await client.get(f"{PATH}/0190aaaa-0000-7000-8000-00000000000{number}?q=kim", headers=bearer())
        await client.get(f"{PATH}/kim-{number}")
        await client.get(f"/kim/{number}")
    assert (count(one, "4xx"), count("unmatched", "4xx")) == (before[0] + 6, before[1] + 3)
    assert client.app is not None
    known = {resource.canonical for resource in client.app.router.resources()} | {"unmatched"}
    (family,) = [family for family in REGISTRY.collect() if family.name == "yeoul_http_request_seconds"]
    assert routes() - others <= known
    assert {sample.labels["status"] for sample in family.samples} <= {f"{number}xx" for number in range(1, 6)}


async def test_a_method_that_nobody_knows_is_one_label(client: Client) -> None:
    def count() -> float:
        labels = {"method": "_OTHER", "route": "unmatched", "status": "4xx"}
        return REGISTRY.get_sample_value("yeoul_http_request_seconds_count", labels) or 0.0

    before = count()
    for method in ("PROPFIND", "MKCOL", "SEARCH"):
        await client.request(method, "/nothing")
    assert count() == before + 3
