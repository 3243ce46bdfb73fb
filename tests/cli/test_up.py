"""`up` as a stranger meets it: everything from nothing, used, broken, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from config import Settings
from embedded.stack import Stack
from embedded.state import State, free_port
from tests.cli.test_commands import yeoul

POLL_S = 0.2


@asynccontextmanager
async def up(state_dir: Path, environ: dict[str, str]) -> AsyncIterator[str]:
    """A detached `up` that is ready; gives what it printed, and stops it afterwards."""
    done = await asyncio.to_thread(yeoul, state_dir, environ, "up", "--detach")
    assert done.code == 0, done.out + done.err
    try:
        yield done.out
    finally:
        stopped = await asyncio.to_thread(yeoul, state_dir, environ, "down")
        assert stopped.code == 0, stopped.out + stopped.err


async def status(state_dir: Path, environ: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await asyncio.to_thread(yeoul, state_dir, environ, "status", "--json")).out)
    return found


async def until(true: Callable[[dict[str, Any]], bool], state_dir: Path, environ: dict[str, str]) -> dict[str, Any]:
    """The first status for which `true` holds, within 30 s."""
    async with asyncio.timeout(30):
        while not true(found := await status(state_dir, environ)):
            await asyncio.sleep(POLL_S)
    return found


def pid_of(found: dict[str, Any], name: str) -> int:
    return next(int(process["pid"]) for process in found["processes"] if process["name"] == name)


async def test_everything_from_nothing(
    tmp_path: Path, process_environ: dict[str, str], cache_dir: Path, stack: Stack
) -> None:
    # The stack is asked for so that the broker's files are in the cache.
    environ = process_environ | {"YEOUL_CACHE_DIR": str(cache_dir), "YEOUL_WEB_PORT": str(free_port(set()))}
    state_dir = tmp_path / "state"
    async with up(state_dir, environ) as printed:
        assert "curl" in printed
        found = await status(state_dir, environ)
        assert list(found) == ["ready", "front", "kafka", "postgres", "redis", "metrics", "processes"]
        assert found["ready"] is True
        assert {"kafka", "postgres", "valkey", "web"} < {process["name"] for process in found["processes"]}
        assert all(set(process) == {"name", "pid", "state"} for process in found["processes"])

        passwords = State(state_dir).read("secrets")
        for arguments, hidden in ((("--json",), True), ((), True), (("--secrets",), False)):
            seen = (await asyncio.to_thread(yeoul, state_dir, environ, "status", *arguments)).out
            assert [passwords[name] in seen for name in ("postgres", "valkey")] == [not hidden] * 2

        assert set(found["metrics"]) == {p["name"] for p in found["processes"]} - {"kafka", "postgres", "valkey"}
        async with aiohttp.ClientSession() as client:
            for address in found["metrics"].values():
                assert address in printed
                async with client.get(address) as answer:
                    assert (answer.status, "# TYPE yeoul_" in await answer.text()) == (200, True)

        again = await asyncio.to_thread(yeoul, state_dir, environ, "up")
        assert (again.code, "runs already" in again.out) == (0, True)

        token = (await asyncio.to_thread(yeoul, state_dir, environ, "token", "someone@example.com")).out.strip()
        async with aiohttp.ClientSession(found["front"], headers={"Authorization": f"Bearer {token}"}) as client:
            body = {"kind": "note", "title": "hello"}
            async with client.post("/api/v1/resources", json=body) as answer:
                assert answer.status == 201
                created = (await answer.json())["data"]["id"]

        before = {name: pid_of(found, name) for name in ("web", "valkey")}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        found = await until(
            lambda seen: seen["ready"] and all(pid_of(seen, name) != before[name] for name in before),
            state_dir,
            environ,
        )
        pids = [int(process["pid"]) for process in found["processes"]]
        async with (
            aiohttp.ClientSession(found["front"], headers={"Authorization": f"Bearer {token}"}) as client,
            client.get(f"/api/v1/resources/{created}") as answer,
        ):
            assert answer.status == 200
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert (await status(state_dir, environ))["processes"] == []


async def test_servers_that_the_environment_names_are_not_started(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    environ = process_environ | settings.environ() | {"YEOUL_WEB_PORT": str(free_port(set()))}
    del environ["YEOUL_STATE_DIR"]
    state_dir = tmp_path / "state"
    async with up(state_dir, environ):
        found = await status(state_dir, environ)
        assert {process["name"] for process in found["processes"]}.isdisjoint({"kafka", "postgres", "valkey"})
        assert found["kafka"] == settings.kafka_url


async def test_a_busy_port_of_the_front_is_told_and_nothing_stays(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        environ = process_environ | settings.environ() | {"YEOUL_WEB_PORT": str(port)}
        done = await asyncio.to_thread(yeoul, tmp_path / "state", environ, "up", "--detach")
    assert done.code == 1
    assert f"Port {port}" in done.out + done.err
    assert f"process {os.getpid()}" in done.out + done.err
    assert (await status(tmp_path / "state", environ))["processes"] == []
