"""The servers start, keep their data and addresses, and stop; what dies is noticed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from embedded.errors import AlreadyRunning, PartFailed
from embedded.stack import Stack
from embedded.supervision import Life
from tests.embedded.conftest import Make

BIG = 5 * 1024 * 1024


async def test_data_and_addresses_survive_a_restart(make: Make) -> None:
    async with make("postgres", "valkey") as first:
        addresses = dict(first.settings_environ)
        connection = await asyncpg.connect(addresses["YEOUL_POSTGRES_URL"])
        await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('여울')")
        await connection.close()
        async with redis.asyncio.from_url(addresses["YEOUL_REDIS_URL"]) as client:
            await client.set("kept", "yes")
        pids = first.pids
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    async with make("postgres", "valkey") as second:
        assert second.settings_environ == addresses
        connection = await asyncpg.connect(addresses["YEOUL_POSTGRES_URL"])
        assert await connection.fetchval("SELECT word FROM kept") == "여울"
        await connection.close()
        async with redis.asyncio.from_url(addresses["YEOUL_REDIS_URL"]) as client:
            assert await client.get("kept") == b"yes"


async def test_kafka_keeps_records_over_stop_and_kill(stack: Stack) -> None:
    url = stack.settings_environ["YEOUL_KAFKA_URL"]
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    for part in ("first", "second", "third"):
        async with AIOKafkaProducer(bootstrap_servers=url, acks="all") as producer:
            await producer.send_and_wait("kept", part.encode())
        await (stack.kill if part == "first" else stack.stop)("kafka")
        assert "kafka" not in stack.pids
        await stack.start("kafka")
    assert stack.settings_environ["YEOUL_KAFKA_URL"] == url
    async with AIOKafkaConsumer("kept", bootstrap_servers=url, auto_offset_reset="earliest") as consumer:
        assert [(await consumer.getone()).value for _ in range(3)] == [b"first", b"second", b"third"]


async def test_a_record_of_5_mb_can_be_produced_by_others(stack: Stack) -> None:
    url = stack.settings_environ["YEOUL_KAFKA_URL"]
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    await admin.create_topics([NewTopic("big", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=url, max_request_size=BIG + 1024) as producer:
        sent = await producer.send_and_wait("big", bytes(BIG))
    assert sent.offset == 0


async def test_topics_are_not_made_by_asking(stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.settings_environ["YEOUL_KAFKA_URL"])
    await admin.start()
    try:
        await admin.describe_topics(["nobody_declared_this"])
        assert "nobody_declared_this" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_servers_ask_for_a_password(stack: Stack) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(stack.settings_environ["YEOUL_POSTGRES_URL"], password="wrong")
    wrong = stack.settings_environ["YEOUL_REDIS_URL"].replace("://:", "://:not-")
    async with redis.asyncio.from_url(wrong) as client:
        with pytest.raises(redis.exceptions.ConnectionError, match="invalid username-password"):
            await client.ping()


async def test_passwords_and_secrets_are_private(stack: Stack) -> None:
    for name in ("secrets.json", "processes.json", "valkey/valkey.conf"):
        assert stat.S_IMODE((stack.state.folder / name).stat().st_mode) == 0o600
    for name in ("logs", "kafka", "postgres", "valkey"):
        assert stat.S_IMODE((stack.state.folder / name).stat().st_mode) == 0o700
    # Written by a server itself.
    assert not stat.S_IMODE((stack.state.folder / "kafka" / "data" / "meta.properties").stat().st_mode) & 0o077
    secrets = [value for name, value in stack.state.secrets().items()]
    for pid in stack.pids.values():
        line = " ".join(psutil.Process(pid).cmdline())
        assert not any(secret in line for secret in secrets)


async def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    for pid in stack.pids.values():
        for connection in psutil.Process(pid).net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1")


async def test_valkey_is_at_a_socket_and_at_its_port_where_the_path_is_too_long(make: Make, tmp_path: Path) -> None:
    short = make("valkey").state.folder
    for folder, begins in ((short, "unix://:"), (tmp_path / ("deep" * 20), "redis://:")):
        async with make("valkey", state_dir=folder) as running:
            url = running.settings_environ["YEOUL_REDIS_URL"]
            assert url.startswith(begins)
            async with redis.asyncio.from_url(url) as client:
                assert await client.ping()
            port = json.loads((folder / "ports.json").read_text())["valkey"]
            password = running.state.secrets()["valkey"]
            async with redis.asyncio.from_url(f"redis://:{password}@127.0.0.1:{port}/0") as client:
                assert await client.ping()  # whoever has no tool for sockets


async def test_two_clones_run_side_by_side(make: Make, tmp_path: Path) -> None:
    parts = "kafka", "postgres", "valkey"
    async with make(*parts) as one, make(*parts, state_dir=tmp_path / "other") as two:
        assert one.settings_environ["YEOUL_KAFKA_URL"] != two.settings_environ["YEOUL_KAFKA_URL"]
        assert one.settings_environ["YEOUL_REDIS_URL"] != two.settings_environ["YEOUL_REDIS_URL"]
        assert one.settings_environ["YEOUL_COMMAND_KEY"] != two.settings_environ["YEOUL_COMMAND_KEY"]
        connection = await asyncpg.connect(one.settings_environ["YEOUL_POSTGRES_URL"])
        await connection.execute("CREATE TABLE only_here ()")
        await connection.close()
        connection = await asyncpg.connect(two.settings_environ["YEOUL_POSTGRES_URL"])
        assert await connection.fetchval("SELECT to_regclass('only_here')") is None
        await connection.close()
        for stack, own in ((one, "only_here"), (two, "only_there")):
            admin = AIOKafkaAdminClient(bootstrap_servers=stack.settings_environ["YEOUL_KAFKA_URL"])
            await admin.start()
            try:
                await admin.create_topics([NewTopic(own, 1, 1)])
                async with asyncio.timeout(30):
                    while not (found := await admin.list_topics()):  # a broker answers before it shows a new topic
                        await asyncio.sleep(0.05)
                assert found == [own]
            finally:
                await admin.close()


async def test_a_second_one_on_the_same_folder_is_told_who_runs(make: Make) -> None:
    async with make("valkey"):
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            make("valkey").take()


async def test_a_very_deep_folder_works(make: Make, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-long-name-of-a-folder"] * 6)
    async with make("postgres", state_dir=deep) as running:
        connection = await asyncpg.connect(running.settings_environ["YEOUL_POSTGRES_URL"])
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await connection.close()


async def test_a_part_that_dies_is_started_again(make: Make, exits: AsyncExitStack) -> None:
    back = asyncio.Event()
    seen: list[Life] = []

    def changed() -> None:
        runner = running.runners.get("valkey")
        if runner is not None:
            seen.append(runner.life)
            if runner.life is Life.READY and Life.RESTARTING in seen:
                back.set()

    lines: list[str] = []
    running = make("valkey", say=lines.append, changed=changed)
    await exits.enter_async_context(running)
    keeping = asyncio.create_task(running.keep())
    exits.push_async_callback(_end, keeping)
    before = running.pids["valkey"]
    os.kill(before, signal.SIGKILL)
    await asyncio.wait_for(back.wait(), 20)
    assert running.pids["valkey"] != before
    assert any("SIGKILL" in line and "valkey.log" in line for line in lines)
    async with redis.asyncio.from_url(running.settings_environ["YEOUL_REDIS_URL"]) as client:
        assert await client.ping()


async def test_a_part_that_keeps_dying_ends_the_watch_with_its_log_named(make: Make) -> None:
    async with make("valkey") as running:
        keeping = asyncio.create_task(running.keep())
        configuration = running.state.folder / "valkey" / "valkey.conf"
        runner = running.runners["valkey"]

        async def break_it(say: object) -> None:
            configuration.write_text("no such directive\n")

        runner.part.prepare = break_it  # type: ignore[method-assign]
        os.kill(running.pids["valkey"], signal.SIGKILL)
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(keeping, 60)
        assert raised.group_contains(PartFailed, match=r"ended 5 times.*valkey\.log")
        assert runner.life is Life.FAILED


async def test_a_frozen_part_is_stopped_all_the_same(make: Make) -> None:
    async with make("postgres") as running:
        os.kill(running.pids["postgres"], signal.SIGSTOP)
        assert await running.runners["postgres"].stop()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
