"""A version that was started before its migration waits, says so, and works as soon as the tables are there."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config import Settings
from stores import migrations
from streams import admin
from tests.flows.harness import Process, own_port, until
from worker import GROUPS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _get(url: str) -> tuple[int, Any]:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.json()
    except aiohttp.ClientError:
        return 0, {}


async def test_a_worker_and_a_front_wait_for_the_tables(own_settings: Settings, tmp_path: Path) -> None:
    await admin.ensure_topics(own_settings)
    port = own_port()
    worker = Process(
        own_settings, ["-m", "cli", "worker"], tmp_path / "worker.log", YEOUL_STATE_DIR=str(tmp_path / "state")
    )
    front = Process(
        own_settings, ["-m", "cli", "web"], tmp_path / "front.log",
        YEOUL_STATE_DIR=str(tmp_path / "state"), YEOUL_WEB_PORT=str(port), YEOUL_WEB_PROCESSES="1",
    )  # fmt: skip
    lists, front_ready = f"http://127.0.0.1:{port}/api/v1/resources", f"http://127.0.0.1:{port}/readyz"
    try:
        await asyncio.gather(worker.start(ready=False), front.start(ready=False))

        async def all_wait() -> Any:
            status, body = await _get(f"http://127.0.0.1:{worker.port}/readyz")
            checks = body.get("checks", {})
            groups = {name: state for name, state in checks.items() if name.startswith(own_settings.topic_prefix)}
            told = [state.startswith("waiting for an operator: relation ") for state in groups.values()]
            return status == 503 and len(told) == len(GROUPS) and all(told) and checks

        checks = await until(all_wait, 60, "the worker waits for an operator")
        assert checks["postgres"].startswith("waits for an operator: ")

        async def front_waits() -> bool:
            status, body = await _get(front_ready)
            words = (body.get("kafka"), body.get("redis"), body.get("postgres"))
            return status == 503 and words == ("ok", "ok", "waits for an operator")

        await until(front_waits, 60, "the front waits for an operator")
        for _ in range(3):
            status, body = await _get(lists)
            assert (status, body["error"]["code"]) == (503, "STORES_AWAY")
        await migrations.apply(own_settings.postgres_url)
        await asyncio.gather(worker.ready(), front.ready())
        assert (await _get(lists))[0] == 200
    finally:
        await asyncio.gather(worker.kill(), front.kill())
    said = {process: process.log.read_text() for process in (worker, front)}
    assert said[front].count(r"PostgreSQL refuses: relation \"resources\" does not exist") == 1
    for log in said.values():
        assert "Traceback" not in log
        assert "crashed" not in log
