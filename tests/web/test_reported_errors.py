"""What of a request that failed is reported to Sentry, as it arrives there."""

import asyncio
import gc
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from config import Settings
from telemetry import reports
from tests import defects
from tests.telemetry.listeners import Listener, listening
from tests.web.conftest import OWNER, Client
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.parts import ACCESS

PATH = "/api/v1/resources"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
NOTE = {"kind": "note", "title": "a blue boat", "body": "kim@example.org", "attributes": {"harbour": "Mokpo"}}
WRITTEN = (b"blue boat", b"kim", b"harbour", b"mokpo", b"lighthouse", str(OWNER).encode(), b"bearer", b"127.0.0.1")


@pytest.fixture
def sentry() -> Iterator[Listener]:
    gc.collect()  # what earlier tests left behind is complained of now, and not to this listener
    with listening() as listener:
        reports.configure(Settings(sentry_dsn=f"http://{'c' * 32}@{listener.address}/42"), "web")
        try:
            yield listener
        finally:
            reports.close()


@pytest.fixture
async def reporting(sentry: Listener, fakes: Fakes) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create(SETTINGS, fakes.open))) as opened:
        yield opened


def reported(sentry: Listener, logger: str) -> list[dict[str, Any]]:
    """Reports of such a logger; another's is of what an earlier test left to be collected."""
    return [report for report in sentry.reports() if report["logger"].startswith(logger)]


async def test_a_failed_request_is_reported_by_its_ids_only(
    reporting: Client, sentry: Listener, fakes: Fakes, bearer: Any
) -> None:
    fakes.commands.raises = ValueError("invalid input for query argument $3: 'kim@example.org'")
    headers = bearer(traceparent=TRACE, **{"User-Agent": "Lighthouse/7", "X-Request-Id": "mine"})
    answer = await reporting.post(PATH, json=NOTE, headers=headers | {"Cookie": "a=kim"})
    assert (answer.status, (await answer.json())["error"]["code"]) == (500, "INTERNAL_ERROR")
    await asyncio.to_thread(sentry.until, lambda: reported(sentry, "yeoul"))
    (report,) = reported(sentry, "yeoul")
    assert report["logentry"] == {"message": "a request failed"}
    assert (report["tags"]["request"], report["tags"]["trace_id"]) == ("mine", "a" * 32)
    (error,) = report["exception"]["values"]
    assert (error["type"], "value" in error) == ("ValueError", False)
    frames = [frame["filename"] for frame in error["stacktrace"]["frames"] if frame["in_app"]]
    assert "web/middlewares.py" in frames
    for _, given, body in sentry.requests:
        said = body.lower() + json.dumps(given).lower().replace(sentry.address, "").encode()
        assert [word for word in WRITTEN if word in said] == []


async def test_what_callers_do_wrong_is_no_error(
    reporting: Client,
    sentry: Listener,
    bearer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "yeoul.web")  # as an installation has it: with a line for each request
    stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, logging.StreamHandler(stream)])
    for body in (b"{", b'{"kind": 1}', b"[" * 10_000, b"\xff"):
        answer = await reporting.post(PATH, data=body, headers=bearer(**{"Content-Type": "application/json"}))
        assert answer.status == 400
    for path in ("/nothing", PATH + "/no-id", PATH + "?cursor=x"):
        assert 400 <= (await reporting.get(path, headers=bearer())).status < 500
    assert (await reporting.get("/readyz")).status == 200
    reporting.app[ACCESS].flush()
    await asyncio.to_thread(reports.close)
    assert [
        record for record in caplog.records if record.levelno >= logging.ERROR and not defects.is_left(record)
    ] == []
    assert {report["logger"] for report in sentry.reports()} <= {"asyncio"}


async def test_a_task_that_nobody_waits_for_is_reported_without_its_text(sentry: Listener) -> None:
    """asyncio fills the text of its line with the exception before it logs it."""
    asyncio.get_running_loop().call_exception_handler({
        "message": "Task exception was never retrieved", "exception": ValueError("kim@example.org"),
        "future": "kim@example.org",
    })  # fmt: skip

    def types() -> list[str]:
        reports = reported(sentry, "asyncio")
        assert {report["logentry"]["message"] for report in reports} <= {"an error that asyncio logged"}
        return [error["type"] for report in reports for error in report["exception"]["values"]]

    await asyncio.to_thread(sentry.until, lambda: "ValueError" in types())
    assert not any(b"kim" in body for _, _, body in sentry.requests)
