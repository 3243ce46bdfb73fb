"""Errors of every process are reported, over real processes and a Sentry on a socket of its own."""

import asyncio
import base64
import secrets
import signal

import aiohttp
import psutil
import pytest

from tests.flows.harness import System
from tests.telemetry.listeners import Listener, listening

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_request_that_fails_and_a_process_that_ends(installation: System) -> None:
    """What a worker reports: tests/flows/test_stuck.py."""
    with listening() as sentry:
        await failing(installation, sentry)


async def failing(installation: System, sentry: Listener) -> None:
    worker, front = installation.worker("accounts", "sessions"), installation.front(processes=1)
    await asyncio.gather(worker.start(), front.start())
    token = await installation.token("minsu@example.org")
    await front.stop()
    front.more(
        YEOUL_SENTRY_DSN=sentry.dsn, YEOUL_SEALING_KEY=base64.b64encode(secrets.token_bytes(32)).decode()
    )  # fmt: skip
    await front.start()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client:
        async with client.get(f"{installation.url_of(front)}/users/me") as answer:
            assert answer.status == 503
        assert await asyncio.to_thread(sentry.reporter, "%s: is a sealing key missing?") == "web"
    (child,) = psutil.Process(front.pid).children()
    child.send_signal(signal.SIGKILL)
    assert await asyncio.to_thread(sentry.reporter, "front process %s ended with %s") == "web"
    assert not any(b"minsu" in body for _, _, body in sentry.requests)
