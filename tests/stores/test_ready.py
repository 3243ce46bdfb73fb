"""Each store answers for itself: one that is frozen says nothing about the other."""

import asyncio
import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import msgspec
import psutil
import pytest

import stores
from config import Settings
from embedded.stack import Stack
from stores import StoresAway, StoresUnfit, migrations
from stores.postgres import NEWEST_MIGRATION, OPEN_S, of
from stores.redis import TIMEOUT_S


@pytest.mark.parametrize(
    ("part", "name", "other"), [("postgres", "postgres", "redis"), ("valkey", "redis", "postgres")]
)
async def test_a_frozen_store_is_named_alone_and_within_its_time(
    settings: Settings, stack: Stack, monkeypatch: pytest.MonkeyPatch, part: str, name: str, other: str
) -> None:
    if name == "redis":
        monkeypatch.setattr("stores.redis.TIMEOUT_S", TIMEOUT_S)  # with no more patience than the product has
    await migrations.apply(settings.postgres_url)
    async with stores.open(settings) as opened:
        async with asyncio.timeout(20):
            while await opened.ready() != {"postgres": "ok", "redis": "ok"}:
                await asyncio.sleep(0.02)
        root = psutil.Process(stack.pids[part])
        family = [root, *root.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            found = await opened.ready()
            took = time.monotonic() - began
        finally:
            for process in family:
                process.send_signal(signal.SIGCONT)
        assert took < 2 * stores.READY_S
        assert found[other] == "ok"
        assert found[name] not in ("ok", "", "TimeoutError")


async def test_all_who_ask_at_once_share_one_look(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrations.apply(settings.postgres_url)
    async with stores.open(settings) as opened:
        looks = 0
        look = opened.database.ready

        async def counted() -> str:
            nonlocal looks
            looks += 1
            return await look()

        monkeypatch.setattr(opened.database, "ready", counted)
        first = asyncio.create_task(opened.ready())
        others = [asyncio.create_task(opened.ready()) for _ in range(100)]
        await asyncio.sleep(0)
        first.cancel()  # who goes away takes it from nobody
        assert await asyncio.gather(*others) == [{"postgres": "ok", "redis": "ok"}] * 100
        assert looks == 1
        await opened.ready()
        assert looks == 2


async def test_tables_that_are_not_up_to_date_wait_for_an_operator(own_settings: Settings) -> None:
    async with stores.open(own_settings) as opened:
        assert (await opened.ready())["postgres"] == f'{stores.OPERATOR}: relation "migrations" does not exist'
        await migrations.apply(own_settings.postgres_url)
        assert (await opened.ready())["postgres"] == "ok"
        # As a version finds it that brings a migration which nobody has applied yet.
        await opened.database.execute("DELETE FROM migrations WHERE name = $1", NEWEST_MIGRATION)
        assert (await opened.ready())["postgres"] == (
            f"{stores.OPERATOR}: the tables lack {NEWEST_MIGRATION} (./yeoul migrate)"
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: re.sub(r"/[^/?]+\?", "/no_such_database?", url), 'database "no_such_database" does not exist'),
        (lambda url: re.sub(r"//[^@]+@", "//nobody:marker@", url), 'user "nobody"'),
    ],
)
async def test_a_server_that_lets_nobody_in_waits_for_an_operator_and_is_told_once(
    settings: Settings, change: Callable[[str], str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with stores.open(msgspec.structs.replace(settings, postgres_url=change(settings.postgres_url))) as opened:
        for _ in range(3):
            state = (await opened.ready())["postgres"]
            assert state.startswith(f"{stores.OPERATOR}: ")
            assert says in state
            with pytest.raises(StoresUnfit, match=says):
                await opened.database.fetch("SELECT 1")
    assert caplog.text.count("PostgreSQL refuses: ") == 1
    assert "marker" not in caplog.text


async def test_callers_share_one_attempt_to_connect(settings: Settings) -> None:
    with socket.socket() as silent:
        # The system takes the connections, and nobody answers.
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        url = f"postgresql://somebody:secret@127.0.0.1:{silent.getsockname()[1]}/d"
        database = of(msgspec.structs.replace(settings, postgres_url=url), "tests")
        began = time.monotonic()

        async def caller() -> float:
            with pytest.raises(StoresAway):
                await database.fetch("SELECT 1")
            return time.monotonic() - began

        took = await asyncio.gather(*(caller() for _ in range(20)))
        assert max(took) < 2 * OPEN_S  # as long as two attempts take, one after the other
        assert await database.ready() != "ok"
        await database.close()


async def test_who_goes_away_takes_the_attempt_from_nobody(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_door = asyncio.Event()
    attempts = 0
    create_pool: Any = asyncpg.create_pool

    async def create(*arguments: object, **named: object) -> object:
        nonlocal attempts
        attempts += 1
        await open_door.wait()
        return await create_pool(*arguments, **named)

    monkeypatch.setattr(asyncpg, "create_pool", create)
    database = of(settings, "tests")
    impatient, patient = (asyncio.create_task(database.fetch("SELECT 1 AS one")) for _ in range(2))
    while not attempts:
        await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait((impatient,))
    open_door.set()
    assert [row["one"] for row in await patient] == [1]
    assert (impatient.cancelled(), attempts) == (True, 1)
    await database.close()
