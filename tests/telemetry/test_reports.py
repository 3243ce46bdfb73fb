"""What a report of an error holds, as it arrives, and what never leaves the house."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from config import Settings
from telemetry import reports
from tests.telemetry.listeners import Listener, listening

log = logging.getLogger("yeoul.test")
KAFKA, SENDING = logging.getLogger("aiokafka"), logging.getLogger("urllib3.connectionpool")


@pytest.fixture
def sentry() -> Iterator[Listener]:
    with listening() as listener:
        reports.configure(Settings(sentry_dsn=listener.dsn), "web")
        try:
            yield listener
        finally:
            reports.close()


def sent(sentry: Listener) -> list[tuple[dict[str, Any], dict[str, str], bytes]]:
    """Reports of what the tests here log, each with its headers and body: others may have left something to tell."""
    found = zip(sentry.reports(), list(sentry.requests), strict=False)
    names = {log.name, KAFKA.name, SENDING.name}
    return [(report, headers, body) for report, (_, headers, body) in found if report["logger"] in names]


def fail(secret: str) -> None:
    inner = {"password": secret}
    try:
        raise KeyError(inner["password"])
    except KeyError as error:
        raise ValueError(f"no such thing as {secret}") from error


def test_an_error_is_reported_without_any_value(sentry: Listener) -> None:
    secret = "kim@example.org"
    try:
        fail(secret)
    except ValueError:
        fields = {"request": "r1", "trace_id": "a" * 32, "user": "somebody", "address": secret}
        log.exception("%s could not be served", secret, extra={"fields": fields})
    sentry.until(lambda: sent(sentry))
    ((report, headers, body),) = sent(sentry)
    assert report["logentry"] == {"message": "%s could not be served"}
    assert report["tags"] == {"process": "web", "request": "r1", "trace_id": "a" * 32}
    assert (report["environment"], report["server_name"], report["level"]) == ("local", "web", "error")
    first, second = report["exception"]["values"]
    assert (first["type"], second["type"]) == ("KeyError", "ValueError")
    assert second["stacktrace"]["frames"][-1]["function"] == "fail"
    assert second["stacktrace"]["frames"][-1]["filename"] == "tests/telemetry/test_reports.py"
    assert secret.encode() not in body
    assert b"somebody" not in body
    assert b"vars" not in body
    assert str(reports.ROOT).encode() not in body
    assert set(report) <= reports.ALLOWED
    assert sentry.key in headers["x-sentry-auth"]


def test_only_errors_are_reported_and_never_states_that_pass(sentry: Listener) -> None:
    log.warning("a warning")
    KAFKA.error("Unable connect to node with id %s: %s", 1, "x")
    SENDING.error("what has failed must not report itself")
    log.critical("the last one")
    sentry.until(lambda: any(report["level"] == "fatal" for report, _, _ in sent(sentry)))
    reports.close()
    assert [(one["logentry"]["message"], one["level"]) for one, _, _ in sent(sentry)] == [("the last one", "fatal")]


def test_the_key_is_in_no_line(sentry: Listener, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log.error("something")
        sentry.until(lambda: sentry.requests)
        reports.close()
    assert sentry.key not in caplog.text
    assert sentry.key not in repr(Settings(sentry_dsn=sentry.dsn))


def test_nobody_waits_for_a_sentry_that_does_not_answer(sentry: Listener) -> None:
    sentry.hold.clear()
    for number in range(500):
        log.error("error %d", number)  # more than the queue takes: a wait would be one for ever
    sentry.until(lambda: sentry.requests)
    sentry.hold.set()


def test_without_an_address_nothing_is_set_up() -> None:
    before = list(logging.getLogger().handlers)
    reports.configure(Settings(), "web")
    assert logging.getLogger().handlers == before
