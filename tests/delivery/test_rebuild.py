"""A metric built anew is the table that counted all along, to the bit, whatever happened meanwhile."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.client import AIOKafkaAdminClient

from agents import analytics, rebuild
from config import Settings
from config.metrics import load
from stores import metrics
from stores.metrics import Gone, Metrics
from streams.admin import ensure_topics
from streams.envelope import Unreadable
from streams.groups import Connections
from streams.rereading import Log
from tests.contracts.harness import until
from tests.delivery.counting import ALIKE, Shops, build, counting, declare, declared, opened, rows, states

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]


@pytest_asyncio.fixture(loop_scope="session")
async def connections(own_settings: Settings, tmp_path: Path) -> AsyncIterator[Connections]:
    async with opened(own_settings, tmp_path, "".join(ALIKE.format(name=name) for name in ("orders", "twin"))) as made:
        yield made


async def test_while_events_flow(connections: Connections) -> None:
    shops = Shops(connections)
    async with counting(connections):
        await shops.send(6000)
        flowing = asyncio.create_task(shops.send(10_000))
        said: list[str] = []
        await build(connections, said=said).run()
        await flowing
        await shops.send(3000)
        await shops.handled()
    assert await states(connections) == ["retired", "serving"]
    assert "the topics still keep all" in said[0]
    new, twin = await rows(connections, "orders"), await rows(connections, "twin")
    assert len(twin) > 500
    assert any(row[3].startswith("#dropped.") for row in twin)
    assert new == twin
    left = await connections.database.fetch("SELECT 1 FROM progress WHERE consumer_group LIKE '%rebuild%'")
    assert left == []


async def test_while_no_worker_runs(connections: Connections, caplog: pytest.LogCaptureFixture) -> None:
    shops = Shops(connections)
    async with counting(connections):
        await shops.send(4000)
        await shops.handled()
    await shops.send(2000)  # not ours to count: the live group goes on with them
    caplog.clear()
    await build(connections).run()
    # No batch failed and was read again, which ends in the same tables, only later. A broker that counts as away for a
    # moment, since this process stood still, is no batch.
    records = [record for record in caplog.records if record.name.startswith("yeoul.streams")]
    assert [record.getMessage() for record in records if record.name != "yeoul.streams.producer"] == []
    assert await rows(connections, "orders") == await rows(connections, "twin")
    async with counting(connections):
        await shops.handled()
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def rebuilding(settings: Settings) -> "asyncio.subprocess.Process":
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "metrics", "rebuild", "orders", cwd=ROOT,
        env=os.environ | settings.environ() | {"PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def test_a_kill_in_the_middle(connections: Connections) -> None:
    shops = Shops(connections)
    async with counting(connections) as running:
        await shops.send(30_000)
        await shops.handled()
        # These metrics take long to add up: a batch of all that one may have would hold the loop up for seconds.
        assert running.consumer is not None
        assert running.consumer.pace.records < 30_000
        process = await rebuilding(connections.settings)
        group = f"{connections.settings.topic_prefix}.analytics-rebuild-orders-2"

        async def begun() -> bool:
            row = await connections.database.fetchrow(
                "SELECT sum(next_offset) AS at FROM progress WHERE consumer_group = $1", group
            )
            return bool(row["at"])

        await until(begun)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert await states(connections) == ["serving", "building"]
        at = await connections.database.fetchrow(
            "SELECT sum(next_offset) AS at FROM progress WHERE consumer_group = $1", group
        )
        assert 0 < at["at"] < 30_000
        await shops.send(2000)
        process = await rebuilding(connections.settings)
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        assert "goes on with version 2" in out.decode()
        assert "version 2 serves from now on" in out.decode()
        await shops.send(1000)
        await shops.handled()
    assert await states(connections) == ["retired", "serving"]
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def test_dead_letters_that_are_replayed_meanwhile_are_counted_once(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be read by now, and was not then, is the live group's to replay; what it replayed is in both tables."""
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)
    shops = Shops(connections)
    decode = analytics.Counting.decode

    def forgetful(self: analytics.Counting, record: Any) -> Any:
        if record.offset in {7, 8, 9} and record.topic == shops.topic:
            raise Unreadable("bad_name", "a version that could not read it")
        return decode(self, record)

    monkeypatch.setattr(analytics.Counting, "decode", forgetful)
    async with counting(connections):
        await shops.send(4000)
        await shops.handled()
        monkeypatch.setattr(analytics.Counting, "decode", decode)
        letters = await connections.dead_letters.listed(group=None, state="parked", topic=None, limit=1000, after=0)
        ours = [letter.id for letter in letters if letter.offset in {7, 8, 9} and letter.code == "bad_name"]
        assert len(ours) >= 6

        async def slow(connection: Any, version: Any) -> None:
            # The tables are about to change places: a replay that is asked for now must wait for it.
            await connections.dead_letters.settle(ours[1], "requested")
            await metrics.swap(connection, version)

        monkeypatch.setattr(rebuild, "swap", slow)
        look = rebuild.Rebuilt.look

        async def replays(self: rebuild.Rebuilt, connection: Any) -> None:
            await look(self, connection)
            await connections.dead_letters.settle(ours[0], "requested")

            async def done() -> bool:
                letter = await connections.dead_letters.get(ours[0])
                return letter is not None and letter.state == "replayed"

            monkeypatch.setattr(rebuild.Rebuilt, "look", look)
            await until(done)

        monkeypatch.setattr(rebuild.Rebuilt, "look", replays)
        await build(connections).run()

        async def both() -> bool:
            letter = await connections.dead_letters.get(ours[1])
            return letter is not None and letter.state == "replayed"

        await until(both)
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def test_what_the_topics_keep_no_longer(connections: Connections) -> None:
    shops = Shops(connections)
    async with counting(connections):
        await shops.send(4000)
        await shops.handled()
    admin = AIOKafkaAdminClient(bootstrap_servers=connections.settings.kafka_url)
    await admin.start()
    await admin.delete_records({TopicPartition(shops.topic, number): RecordsToDelete(400) for number in range(4)})
    await admin.close()
    with pytest.raises(rebuild.Refused, match="the topics keep events from"):
        await build(connections).run(datetime.now(UTC) - timedelta(days=1))
    assert await states(connections) == ["serving"]
    said: list[str] = []
    await build(connections, said=said).run()
    assert "as far as the topics keep" in said[0]
    counted = sum(row[5] for row in await rows(connections, "orders") if row[0] == 3600 and row[3] == "count")
    before = sum(row[5] for row in await rows(connections, "twin") if row[0] == 3600 and row[3] == "count")
    assert 0 < counted < before


async def test_from_a_time_on(connections: Connections) -> None:
    shops = Shops(connections)
    await shops.send(2000)
    middle = datetime.now(UTC)
    await shops.send(2000)
    async with counting(connections):
        await shops.handled()
    with pytest.raises(rebuild.Refused, match="in the future"):
        await build(connections).run(datetime.now(UTC) + timedelta(hours=1))
    assert await states(connections) == ["serving"]
    await build(connections).run(middle)
    row = await connections.database.fetchrow("SELECT count(*) AS n FROM metrics WHERE state = 'building'")
    assert row["n"] == 0
    counted = sum(row[5] for row in await rows(connections, "orders") if row[0] == 3600 and row[3] == "count")
    before = sum(row[5] for row in await rows(connections, "twin") if row[0] == 3600 and row[3] == "count")
    assert 0 < counted < 0.7 * before


async def test_what_is_taken_out_of_the_file_is_not_built(connections: Connections) -> None:
    versions = Metrics(connections.database)
    await versions.register(load(connections.settings.metrics_file))
    building = build(connections)
    version, _ = await versions.build(declared(connections, "orders"), anew=False)
    declare(connections.settings, "twin")
    await versions.register(load(connections.settings.metrics_file))
    assert await states(connections) == ["retired", "retired"]
    async with Log(connections, ()) as log:
        handler = rebuild.Rebuilt(connections, building._group(version), version, building._live, log)
        with pytest.raises(Gone):
            await handler.prepare()


async def test_a_metric_that_comes_back_begins_anew(connections: Connections) -> None:
    shops = Shops(connections)

    async def run_until_handled() -> None:
        async with counting(connections):
            await shops.handled()

    await shops.send(1000)
    await run_until_handled()
    declare(connections.settings, "twin")
    await shops.send(1000)
    await run_until_handled()
    assert await states(connections) == ["retired"]
    declare(connections.settings, "orders", "twin")
    await shops.send(1000)
    await run_until_handled()
    assert await states(connections) == ["retired", "serving"]
    assert 0 < len(await rows(connections, "orders")) < len(await rows(connections, "twin"))
    await build(connections).run()
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def test_where_a_run_goes_on_it_does_not_begin_from_another_time(connections: Connections) -> None:
    await Metrics(connections.database).register(load(connections.settings.metrics_file))
    await Metrics(connections.database).build(declared(connections, "orders"), anew=False)
    with pytest.raises(rebuild.Refused, match="--anew begins another"):
        await build(connections).run(datetime.now(UTC) - timedelta(minutes=1))
    assert await states(connections) == ["serving", "building"]
    said: list[str] = []
    await build(connections, said=said).run()
    assert "goes on with version 2" in said[0]
    await build(connections, said=said).run(datetime.now(UTC) - timedelta(minutes=1), anew=True)
    assert await states(connections) == ["retired", "retired", "serving"]


@pytest.mark.parametrize("lost", [False, True])
async def test_dead_letters_of_an_earlier_life_leave_nothing_out(connections: Connections, lost: bool) -> None:
    """A topic that was made anew, or lost its end: at the old offsets stand other records, which were counted."""
    shops = Shops(connections)
    producer = connections.broker.producer
    assert producer is not None
    async with counting(connections):
        for number in range(4):
            for _ in range(20):
                await producer.send_and_wait(shops.topic, b"rubbish", partition=number)
        shops.sent = 80
        await shops.handled()
    admin = AIOKafkaAdminClient(bootstrap_servers=connections.settings.kafka_url)
    await admin.start()
    await admin.delete_topics([shops.topic])

    async def gone() -> bool:
        return shops.topic not in await admin.list_topics()

    await until(gone)
    await admin.close()
    await ensure_topics(connections.settings)
    async with counting(connections):
        await shops.send(4000)
        await shops.handled()
    if lost:
        await connections.database.execute(
            """UPDATE topic_lives SET kafka_id = (SELECT topic_id FROM topic_lives WHERE topic = $1 AND life = 1)
               WHERE topic = $1 AND life = 0""",
            shops.topic,
        )
    await build(connections).run()
    assert await rows(connections, "orders") == await rows(connections, "twin")
