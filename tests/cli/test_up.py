"""`up` as a stranger meets it: everything from nothing, used, broken, stopped."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from config import Settings
from embedded.stack import Stack
from embedded.state import State, free_port, obstacle
from tests.cli.harness import ROOT, Finished, yeoul

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


async def run(state_dir: Path, environ: dict[str, str], *arguments: str) -> Finished:
    """How a command ended; it is given again where a server that is busy with its start counted as away."""
    async with asyncio.timeout(30):
        while (found := await asyncio.to_thread(yeoul, state_dir, environ, *arguments)).code and " away" in found.err:
            await asyncio.sleep(POLL_S)
    return found


async def answered(client: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and document; asked again as the front asks for (503) where a server counted as away."""
    async with asyncio.timeout(30):
        while True:
            async with client.request(method, path, json=body) as answer:
                if answer.status != 503:
                    return answer.status, await answer.json()
            await asyncio.sleep(POLL_S)


def resident_mb(pids: list[int]) -> float:
    """What these processes and their children hold, MB; what they share is counted for each."""
    roots = [psutil.Process(pid) for pid in pids]
    family = {process for root in roots for process in (root, *root.children(recursive=True))}
    resident = 0
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # as PostgreSQL's helpers come and go
            resident += process.memory_info().rss
    return resident / 2**20


def pid_of(found: dict[str, Any], name: str) -> int:
    return next(int(process["pid"]) for process in found["processes"] if process["name"] == name)


async def as_it_says(printed: str, state_dir: Path, environ: dict[str, str]) -> None:
    """The line to paste makes a resource, and a tail that watches meanwhile shows it."""
    pasted = re.search(r"^curl (?:.*\\\n)*.*$", printed, re.MULTILINE)
    assert pasted is not None
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "tail", "--type", "resource.created", "--count", "1", cwd=ROOT,
        env=environ | {"YEOUL_STATE_DIR": str(state_dir)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = []
    shown = asyncio.create_task(tail.communicate())
    try:
        async with asyncio.timeout(30):
            while not shown.done():  # it does not say from when on it watches
                curl = await asyncio.create_subprocess_shell(pasted[0], stdout=asyncio.subprocess.PIPE)
                head, _, body = (await curl.communicate())[0].decode().replace("\r", "").partition("\n\n")
                assert head.startswith(("HTTP/1.1 201", "HTTP/1.1 503")), head
                if " 201" in head:
                    made.append(json.loads(body)["data"]["id"])
                await asyncio.wait([shown], timeout=0.5)
    finally:
        if tail.returncode is None:
            tail.kill()
    events = (await shown)[0].decode()
    assert events.count("resource.created") == 1
    assert any(id in events for id in made), (events, made)


async def test_everything_from_nothing(
    tmp_path: Path, process_environ: dict[str, str], cache_dir: Path, stack: Stack
) -> None:
    # The stack is asked for so that the broker's files are in the cache.
    environ = process_environ | {
        "YEOUL_CACHE_DIR": str(cache_dir), "YEOUL_WEB_PORT": str(free_port()), "YEOUL_ANSWER_WAIT": "30"
    }  # fmt: skip
    state_dir = tmp_path / "state"
    async with up(state_dir, environ) as printed:
        await as_it_says(printed, state_dir, environ)
        found = await until(lambda seen: seen["ready"], state_dir, environ)
        assert list(found) == ["ready", "front", "kafka", "postgres", "redis", "metrics", "processes", "more_workers"]
        pids = [int(process["pid"]) for process in found["processes"]]
        said = re.search(r"ready; (\d+) MB resident in all", printed)
        assert said is not None
        # What is shared by many is counted once there, and what grows meanwhile is not.
        assert 0.5 * resident_mb(pids) < int(said[1]) < 1.5 * resident_mb(pids)
        assert {"kafka", "postgres", "valkey", "web"} < {process["name"] for process in found["processes"]}
        assert all(set(process) == {"name", "pid", "state"} for process in found["processes"])

        passwords = State(state_dir).read("secrets")
        for arguments, hidden in ((("--json",), True), ((), True), (("--secrets",), False)):
            seen = (await asyncio.to_thread(yeoul, state_dir, environ, "status", *arguments)).out
            assert [passwords[name] in seen for name in ("postgres", "valkey")] == [not hidden] * 2

        assert set(found["metrics"]) == {p["name"] for p in found["processes"]} - {
            "kafka",
            "postgres",
            "valkey",
            "mail",
        }
        async with aiohttp.ClientSession() as client:
            for address in found["metrics"].values():
                assert address in printed
                async with client.get(address) as answer:
                    assert (answer.status, "# TYPE yeoul_" in await answer.text()) == (200, True)

        again = await asyncio.to_thread(yeoul, state_dir, environ, "up")
        assert (again.code, "runs already" in again.out, "settings" in again.out) == (0, True, False)
        others = environ | {"YEOUL_WEB_PORT": "1234", "YEOUL_LIMIT_READ_ADDRESS": "7/60", "YEOUL_LOG_LEVEL": ""}
        for command in (["up"], ["up", "--detach"]):
            again = await asyncio.to_thread(yeoul, state_dir, others, *command)
            assert (again.code, "YEOUL_WEB_PORT, YEOUL_LIMIT_READ_ADDRESS as given now" in again.out) == (0, True)

        token = (await run(state_dir, environ, "token", "someone@example.com")).out.strip()
        async with aiohttp.ClientSession(found["front"], headers={"Authorization": f"Bearer {token}"}) as client:
            body = {"kind": "note", "title": "hello"}
            code, document = await answered(client, "POST", "/api/v1/resources", body)
            assert code == 201
            created = document["data"]["id"]

        for email, role, code in (("someone", "admin", 0), ("someone", "admin", 0), ("nobody", "admin", 1)):
            changed = await run(state_dir, environ, "role", f"{email}@example.com", role)
            assert (changed.code, "Traceback" in changed.err) == (code, False), changed.err
        following = ("tail", "--from-beginning", "--type", "account.role_changed", "--count", "1")
        told = (await asyncio.to_thread(yeoul, state_dir, environ, *following)).out
        assert '{"role":"admin"}' in told
        # From now on tokens say so.
        token = (await run(state_dir, environ, "token", "someone@example.com")).out.strip()
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        assert claims["role"] == "admin"

        before = {name: pid_of(found, name) for name in ("web", "valkey")}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        found = await until(
            lambda seen: seen["ready"] and all(pid_of(seen, name) != before[name] for name in before),
            state_dir,
            environ,
        )
        pids = [int(process["pid"]) for process in found["processes"]]
        async with aiohttp.ClientSession(found["front"], headers={"Authorization": f"Bearer {token}"}) as client:
            assert (await answered(client, "GET", f"/api/v1/resources/{created}"))[0] == 200
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert (await status(state_dir, environ))["processes"] == []


async def test_servers_that_the_environment_names_are_not_started(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    environ = process_environ | settings.environ() | {"YEOUL_WEB_PORT": str(free_port())}
    del environ["YEOUL_STATE_DIR"]
    state_dir = tmp_path / "state"
    async with up(state_dir, environ):
        found = await status(state_dir, environ)
        assert {process["name"] for process in found["processes"]}.isdisjoint({"kafka", "postgres", "valkey"})
        assert found["kafka"] == settings.kafka_url
        other = str(free_port())
        again = await asyncio.to_thread(yeoul, state_dir, environ | {"YEOUL_WEB_PORT": other}, "up", "--detach")
        assert (again.code, "for YEOUL_WEB_PORT as given now" in again.out) == (0, True), again.out
        # Another admin takes over; then the next start has no token of the first one.
        for words in (("token", "boss@example.com", "--role", "admin"), ("role", "admin@example.com", "user")):
            changed = await run(state_dir, environ, *words)
            assert changed.code == 0, changed.err
    environ |= {"YEOUL_WEB_PORT": "0"}
    if obstacle(0, "::1") is None:
        environ |= {"YEOUL_WEB_HOST": "::1", "YEOUL_METRICS_HOST": "::"}
    # The log goes on from run to run; what is printed is of this one.
    async with up(state_dir, environ) as printed:
        log = state_dir / "logs" / "up.log"
        assert log.read_text().count("ready; ") == 2
        assert (printed.count("ready; "), f"Warnings go to {log}" in printed) == (1, True)
        assert "no token for you: token failed: admin@example.com is an account with the role user" in printed
        assert "./yeoul role admin@example.com admin" in printed
        assert "Bearer $TOKEN" in printed
        token_log = state_dir / "logs" / "token.log"
        assert f"Its log: {token_log}" in printed
        assert "with the role user" in token_log.read_text()
        found = await until(lambda seen: seen["ready"], state_dir, environ)
        front = found["front"]
        assert not front.endswith(":0")
        assert f"curl -i {front}/api/v1/resources" in printed
        async with aiohttp.ClientSession(front) as client:
            assert (await answered(client, "GET", "/readyz"))[0] == 200


async def test_a_named_server_that_is_away_is_told_at_once(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    away = free_port()
    environ = process_environ | settings.environ() | {"YEOUL_REDIS_URL": f"redis://:marker@127.0.0.1:{away}/0"}
    begun = time.monotonic()
    done = await asyncio.to_thread(yeoul, tmp_path / "state", environ, "up", "--detach")
    assert time.monotonic() - begun < 30
    assert done.code == 1
    assert "Redis does not answer at the address that YEOUL_REDIS_URL names" in done.out
    assert "marker" not in done.out


async def test_an_address_of_another_machine_is_told(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    environ = process_environ | settings.environ() | {"YEOUL_WEB_HOST": "203.0.113.7", "YEOUL_WEB_PORT": "8099"}
    for command in (("up",), ("web",)):
        done = await asyncio.to_thread(yeoul, tmp_path / "state", environ, *command)
        assert done.code == 1
        assert "his machine has no address 203.0.113.7" in done.err
        assert "YEOUL_WEB_HOST" in done.err


async def test_the_processes_of_a_front_share_the_port_that_the_system_chose(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    environ = process_environ | settings.environ() | {"YEOUL_WEB_PORT": "0", "YEOUL_STATE_DIR": str(tmp_path)}
    front = await asyncio.create_subprocess_exec(sys.executable, "-m", "cli", "web", cwd=ROOT, env=environ)
    try:
        async with asyncio.timeout(30):
            while len(ports := listening(front.pid)) < 2:
                await asyncio.sleep(POLL_S)
        assert len(set(ports)) == 1
    finally:
        front.terminate()
        await front.wait()


def listening(pid: int) -> list[int]:
    """The ports that the children of a process listen on, one of each child."""
    found = [psutil.Process(child.pid).net_connections("tcp") for child in psutil.Process(pid).children()]
    return [c.laddr.port for connections in found for c in connections if c.status == psutil.CONN_LISTEN]


async def test_who_reads_no_further_ends_a_command_quietly(tmp_path: Path, process_environ: dict[str, str]) -> None:
    command = f"{shlex.quote(sys.executable)} -m cli help | head -0; exit ${{PIPESTATUS[0]}}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", command], cwd=ROOT, env=process_environ, capture_output=True, text=True
    )
    assert done.stderr == ""


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
    # Before any server was started, and the reason before the consequence.
    assert "starting" not in done.out
    assert done.out.index(f"Port {port}") < done.out.index("stopped; the data is kept")
    assert (await status(tmp_path / "state", environ))["processes"] == []
