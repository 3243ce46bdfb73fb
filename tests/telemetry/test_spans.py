"""Spans as a collector gets them; and a collector that is away, slow or refuses."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from config import Settings
from telemetry import spans, tracing
from telemetry.tracecontext import TraceContext, of_headers, read, to_headers
from tests.telemetry.listeners import Listener, listening

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
UNSAMPLED = TRACE[:-1] + "0"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(spans, "CLOSE_S", 30.0)  # no test measures how long closing takes, all need what was exported
    with listening() as listener:
        yield listener
        listener.hold.set()
        tracing.close()  # before the collector is: what still waits would be lost, and counted in the next test


def configure(listener: Listener, **more: object) -> None:
    tracing.configure(Settings(otlp_endpoint=f"http://{listener.address}", **more), "web")  # type: ignore[arg-type]


def lost() -> float:
    return REGISTRY.get_sample_value("yeoul_spans_total", {"outcome": "lost"}) or 0.0


def test_a_command_is_followed_from_its_request_to_its_commit(collector: Listener) -> None:
    configure(collector, otlp_headers=(("x-tenant", "one"),))
    request = tracing.request(TRACE, "vendor=1", "POST")
    assert request is not None
    here = request.context
    assert (here.trace_id, here.tracestate, here.sampled) == ("a" * 32, "vendor=1", True)
    sending = tracing.sending(here.traceparent, here.tracestate, "yeoul.commands.resources", "op")
    assert sending is not None
    handling = tracing.processing(sending.context.traceparent, None, "yeoul.commands.resources", "g", 2)
    other = tracing.request(None, None, "GET")
    assert handling is not None
    assert other is not None
    commit = tracing.committing([handling, other], "COMMIT")
    assert commit is not None
    commit.end(error="TimeoutError")
    handling.end()
    sending.end()
    other.end()
    request.end({"http.route": "/r/{id}", "http.response.status_code": 201}, name="POST /r/{id}")
    tracing.close()
    found = {span["name"]: span for span in collector.spans()}
    server, send = found["POST /r/{id}"], found["send yeoul.commands.resources"]
    process, written = found["process yeoul.commands.resources"], found["COMMIT postgresql"]
    assert (server["parent"], send["parent"], process["parent"]) == ("b" * 16, server["id"], send["id"])
    assert written["parent"] == process["id"]
    assert written["links"] == [other.context.trace_id]
    assert {span["trace"] for span in (server, send, process, written)} == {"a" * 32}
    assert [span["kind"] for span in (server, send, process, written)] == [2, 4, 5, 3]
    assert server["state"] == "vendor=1"
    assert server["service"] == "yeoul-web"
    assert (server["http.request.method"], server["http.response.status_code"]) == ("POST", 201)
    assert (send["messaging.system"], send["messaging.operation.type"]) == ("kafka", "send")
    assert process["messaging.batch.message_count"] == 2
    assert (written["failed"], written["error.type"], server["failed"]) == (True, "TimeoutError", False)
    assert all(headers["x-tenant"] == "one" for _, headers, _ in collector.requests)


def test_who_does_not_record_is_not_recorded(collector: Listener) -> None:
    configure(collector, trace_ratio=0.0)
    for given in (UNSAMPLED, None):
        request = tracing.request(given, None, "GET")
        assert request is not None
        assert not request.context.sampled
        assert tracing.sending(request.context.traceparent, None, "t", "op") is None
        request.end()
    recorded = tracing.request(TRACE, None, "BREW")
    assert recorded is not None
    recorded.end()
    tracing.close()
    assert [(span["name"], span["http.request.method"]) for span in collector.spans()] == [("HTTP", "_OTHER")]


def test_a_collector_that_refuses_is_a_counted_warning(collector: Listener, caplog: pytest.LogCaptureFixture) -> None:
    collector.answer = 400
    configure(collector)
    before = lost()
    for _ in range(3):
        span = tracing.request(TRACE, None, "GET")
        assert span is not None
        span.end()
    with caplog.at_level(logging.DEBUG):
        tracing.close()
    assert lost() == before + 3
    warned = [(r.levelname, r.name) for r in caplog.records if r.levelno >= logging.WARNING]
    assert [one for one in warned if one[1].startswith(("yeoul", "opentelemetry"))] == [("WARNING", "yeoul.telemetry")]


def test_nobody_waits_for_a_collector_that_does_not_answer(
    collector: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "MOST_WAITING", 10)
    monkeypatch.setattr(spans, "MOST_AT_ONCE", 5)
    monkeypatch.setattr(spans, "GATHER_S", 0.01)
    collector.hold.clear()
    configure(collector)
    before = lost()
    for _ in range(100):
        span = tracing.request(TRACE, None, "GET")
        assert span is not None
        span.end()
    assert lost() - before >= 80  # ten wait, and at most two times five were taken out before
    collector.hold.set()


NEVER = "('opentelemetry', 'google', 'sentry_sdk', 'requests', 'urllib3')"


@pytest.mark.parametrize("roots", ["web.parent, web.child, web.app", "worker"])
def test_who_exports_nothing_imports_nothing_for_it(roots: str) -> None:
    """redis-py looks whether OpenTelemetry is there, and would import it: stores/redis.py keeps it out."""
    code = f"import sys, {roots}; print([m for m in sys.modules if m.split('.')[0] in {NEVER}])"
    assert printed(code) == "[]"


def test_what_was_kept_out_is_there_for_who_exports() -> None:
    code = "import stores.redis, sys; print('opentelemetry' in sys.modules); import telemetry.spans, redis; print('ok')"
    assert printed(code).split() == ["False", "ok"]


def printed(code: str) -> str:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_without_a_collector_the_callers_context_goes_on_as_it_came() -> None:
    span = tracing.request(TRACE, "vendor=1", "GET")
    assert span is not None
    assert span.context == TraceContext(TRACE, "vendor=1")
    assert tracing.sending(TRACE, None, "t", "op") is None
    assert tracing.processing(TRACE, None, "t", "g", 1) is None
    assert tracing.request(None, None, "GET") is None
    span.end()


@pytest.mark.parametrize(
    "wrong",
    ["", "x", TRACE + "0", TRACE.upper(), "ff" + TRACE[2:], "00-" + "0" * 32 + TRACE[35:], TRACE.replace("a", "+", 1),
     TRACE.replace("a", "_", 1), TRACE.replace("a", "\u0661", 1), TRACE.replace("b" * 16, "0" * 16)],
)  # fmt: skip
def test_a_wrong_context_is_none(wrong: str) -> None:
    assert read(wrong, "vendor=1") is None


def test_a_context_survives_the_way_over_kafka() -> None:
    assert of_headers(to_headers(TRACE, "vendor=1")) == TraceContext(TRACE, "vendor=1")
    assert of_headers(to_headers(None, None)) is None
    assert of_headers([("traceparent", b"\xff"), ("tracestate", None)]) is None
    for state in ("x" * 513, "a\nb=1", "é=1"):
        assert read(TRACE, state) == TraceContext(TRACE)
