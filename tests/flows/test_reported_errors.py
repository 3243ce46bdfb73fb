"""Errors of every process are reported, over real processes and a Sentry on a socket of its own."""

import asyncio
import base64
import secrets
import signal
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest
import pytest_asyncio

from streams.watchdog import EXIT_STATUS
from tests.flows.harness import Process, System, until
from tests.telemetry.listeners import Listener, listening

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def sentry() -> AsyncIterator[Listener]:
    with listening() as listener:
        yield listener


async def reported(sentry: Listener, message: str) -> dict[str, str]:
    """The tags of the one report that begins like this, once it is there."""

    async def there() -> bool:
        return any(one["logentry"]["message"].startswith(message) for one in sentry.reports())

    await until(there, 30, f"a report of {message!r}")
    (report,) = [one for one in sentry.reports() if one["logentry"]["message"].startswith(message)]
    tags: dict[str, str] = report["tags"]
    return tags


def told(process: Process, sentry: Listener) -> Process:
    """The process, with the Sentry to report to."""
    process.more(YEOUL_SENTRY_DSN=f"http://{secrets.token_hex(16)}@{sentry.address}/42")
    return process


async def test_a_request_that_fails_and_a_process_that_ends(installation: System, sentry: Listener) -> None:
    worker, front = installation.worker("accounts", "sessions"), installation.front(processes=1)
    await asyncio.gather(worker.start(), front.start())
    token = await installation.token("minsu@example.org")
    await front.stop()
    told(front, sentry).more(YEOUL_SEALING_KEY=base64.b64encode(secrets.token_bytes(32)).decode())
    await front.start()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client:
        async with client.get(f"{installation.url_of(front)}/users/me") as answer:
            assert answer.status == 503
            request = answer.headers["X-Request-Id"]
        tags = await reported(sentry, "%s: is a sealing key missing?")
        assert tags["process"] == "web"
        assert tags.get("request") in (None, request)
    (child,) = psutil.Process(front.pid).children()
    child.send_signal(signal.SIGKILL)
    await reported(sentry, "front process %s ended with %s")
    assert not any(b"minsu" in body for _, _, body in sentry.requests)


async def test_a_worker_that_is_stuck_reports_it_before_it_ends(installation: System, sentry: Listener) -> None:
    stuck = installation.worker("resources", point="loop:PATIENCE:3,before_publish:BLOCK:1000000000")
    await told(stuck, sentry).start()
    await installation.send([installation.create(0)])
    assert await stuck.ended(60) == EXIT_STATUS
    assert (await reported(sentry, "the worker is stuck"))["process"] == "worker"
