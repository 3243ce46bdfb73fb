"""Sessions and API keys while a server stands still or is away, through fronts of several processes and a worker."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest

from embedded.stack import Stack
from tests.flows.clients import Browser, asked, told
from tests.flows.harness import System, until
from tests.flows.test_api_keys import machines

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_logout_counts_while_redis_stands_still(installation: System, stack: Stack) -> None:
    """Frozen, not gone: nobody is told anything, and PostgreSQL is asked."""
    browser = Browser(await installation.serve())
    first, second = await browser.register(), await browser.login()
    os.kill(stack.pids["valkey"], signal.SIGSTOP)
    try:
        assert (await browser.ask("POST", "/auth/logout", first["access_token"]))[0] in (204, 401)
        # Asking itself is slower then; what counts is from when on every process knows.
        await browser.refused_everywhere(first, time.monotonic())
        assert await browser.takes(second) == {200}
    finally:
        os.kill(stack.pids["valkey"], signal.SIGCONT)
    assert await browser.takes(first) == {401}
    asked_at = time.monotonic() + 1.0
    await browser.ask("POST", "/auth/logout", second["access_token"])
    await browser.refused_everywhere(second, asked_at)


async def test_revoking_counts_while_redis_stands_still(installation: System, stack: Stack) -> None:
    """Frozen, not gone: nobody is told anything, and PostgreSQL is asked."""
    mine = await machines(await installation.serve())
    one, other = await mine.key(), await mine.key()
    assert await mine.answers(one) == await mine.answers(other) == {200}
    os.kill(stack.pids["valkey"], signal.SIGSTOP)
    try:
        assert (await mine.browser.ask("DELETE", f"/api-keys/{one['id']}", mine.token))[0] in (202, 204)

        async def ended() -> bool:
            held = await installation.stores.api_keys.get(mine.account)
            return held is not None and len(held.keys.held) == 1

        await until(ended, 30, "the key has ended")
        # Asking itself is slower then; what counts is from when on every process knows.
        await mine.refused_everywhere(one, time.monotonic())
        assert await mine.answers(other) == {200}
    finally:
        os.kill(stack.pids["valkey"], signal.SIGCONT)


async def test_without_postgresql_a_known_key_goes_on(installation: System, stack: Stack) -> None:
    mine = await machines(await installation.serve())
    known, unknown = await mine.key("read"), await mine.key("read")
    status, note = await mine.browser.ask("POST", "/resources", mine.token, {"kind": "note", "title": "cached"})
    assert status == 201
    path = f"/resources/{note['id']}"

    async def reads(key: str) -> bool:
        return (await mine.browser.ask("GET", path, key))[0] == 200

    # A front that has not heard Redis for a moment forgets what it knew: so once more, but not again and again.
    for _ in range(3):
        for _ in range(40):  # every process
            assert await reads(known["key"])
        await stack.stop("postgres")
        try:
            went_on = await reads(known["key"])
            if went_on:
                assert await mine.browser.ask("GET", path, unknown["key"]) == (503, "STORES_AWAY")
        finally:
            await stack.start("postgres")
        await until(partial(reads, (unknown if went_on else known)["key"]), 60, "PostgreSQL is back")
        if went_on:
            break
    assert went_on


async def test_without_kafka_a_login_is_refused_at_once(installation: System, stack: Stack) -> None:
    url = await installation.serve()
    browser = Browser(url)
    tokens = await browser.register()
    await stack.stop("kafka")
    try:

        async def refused() -> bool:
            started_at = time.monotonic()
            async with asked("POST", f"{url}/auth/login", {}, again=False, json=browser.who) as answer:
                status, code = await told(answer)
            return (status, code) == (503, "BROKER_AWAY") and time.monotonic() - started_at < 1.0

        # One that was sent before the front knew waits for as long as its caller said.
        await until(refused, 90, "logins are refused")
        assert await browser.takes(tokens) == {200}
    finally:
        await stack.start("kafka")

    async def back() -> bool:
        return (await browser.ask("POST", "/auth/login", body=browser.who))[0] == 200

    await until(back, 60, "logins are taken")
