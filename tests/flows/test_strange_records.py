"""Records that no front wrote, topics that go away: dead letters, and the neighbours pass."""

import asyncio
import os
from collections.abc import Sequence
from uuid import UUID

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.record.util import calc_crc32c_py

from security.signatures import sign
from stores.progress import ProgressStore
from streams import admin, identity
from streams.envelope import SIGNATURE
from tests.flows.harness import OWNER, System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def _command(installation: System, number: int, **changes: object) -> Record:
    """A command as a front would send it, but for the changes; signed."""
    operation = identity.operation_id(OWNER.id, "POST", "/strange", str(number))
    aggregate = identity.aggregate_id(operation)
    envelope = {
        "specversion": "1.0", "id": str(operation), "source": "/yeoul/web", "type": "create_resource",
        "subject": str(aggregate), "time": "2026-01-01T00:00:00Z", "operation": str(operation), "actor": str(OWNER.id),
        "actorrole": "user", "fingerprint": "x", "data": {"kind": "note", "title": "strange"}, **changes,
    }  # fmt: skip
    return _signed(installation, str(aggregate).encode(), msgspec.json.encode(envelope))


def _signed(installation: System, key: bytes | None, value: bytes | None) -> Record:
    signature = sign(installation.settings.command_key, b"resources", key or b"", value or b"")
    return key, value, [(SIGNATURE, signature.encode())]


async def _produce(installation: System, records: Sequence[Record]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=installation.settings.kafka_url, max_request_size=8 << 20)
    await producer.start()
    try:
        topic = f"{installation.settings.topic_prefix}.commands.resources"
        # Partitions are given: keys of any kind must be able to stand beside good ones.
        await asyncio.gather(
            *[
                await producer.send(topic, value, key, partition=number % 4, headers=headers)
                for number, (key, value, headers) in enumerate(records)
            ]
        )
    finally:
        await producer.stop()


async def test_strange_commands_are_parked_and_their_neighbours_pass(installation: System) -> None:
    worker = installation.worker()
    await worker.start()
    good = [installation.create(number) for number in range(40)]
    strange: dict[str, Record] = {
        "unsigned": (b"key", os.urandom(200), []),
        "unsigned 5 MB": (b"key", os.urandom(5 << 20), []),
        "unsigned tombstone": (b"key", None, []),
        "unsigned key": (b"\xff\xfe", b"{}", []),
        "unsigned command": (*_command(installation, 1)[:2], []),
        "unsigned, by another": (*_command(installation, 2)[:2], [(SIGNATURE, b"0" * 64)]),
        "unsigned, in no known alphabet": (*_command(installation, 2)[:2], [(SIGNATURE, b"\xff\x00")]),
        "not_json": _signed(installation, b"key", b"\xff" + os.urandom(200)),
        "not_json big": _signed(installation, b"key", b"x" * (5 << 20)),
        "tombstone": _signed(installation, b"key", None),
        "wrong_shape": _signed(installation, b"key", b'{"of": ["another", "shape"]}'),
        "wrong_key": _signed(installation, b"\xff\xfe", _command(installation, 3)[1]),
        "unknown_command": _command(installation, 4, type="paint_resource"),
        "unknown_role": _command(installation, 5, actorrole="emperor"),
        "wrong_shape data": _command(installation, 6, data={"kind": "note"}),
        "wrong_shape operation": _command(installation, 7, operation="seven"),
        "too_deep": _signed(installation, b"key", b'{"data":' + b"[" * 100_000),
    }
    await installation.send(good[:20])
    await _produce(installation, list(strange.values()))
    await installation.send(good[20:])

    async def parked() -> bool:
        row = await installation.stores.database.fetchrow("SELECT count(*) FROM dead_letters")
        return bool(row["count"] >= len(strange))

    await until(parked, 60, "everything strange is parked")
    rows = await installation.stores.database.fetch("SELECT code, key, value, error FROM dead_letters")
    assert sorted(row["code"] for row in rows) == sorted(name.split()[0].rstrip(",") for name in strange)
    assert {(row["key"], row["value"]) for row in rows} == {(key, value) for key, value, _ in strange.values()}
    await installation.until_done(40 + 4, 60)  # the good ones, and the signed strange ones that name an operation
    rows = await installation.stores.database.fetch("SELECT outcome, count(*) FROM operations GROUP BY outcome")
    assert {row["outcome"]: row["count"] for row in rows} == {"succeeded": 40, "failed": 4}
    assert worker.status is None

    async def counted() -> bool:  # a moment after the commit
        return await worker.metric("yeoul_records_total", outcome="parked", group=_group(installation)) == len(strange)

    await until(counted, 30, "what was parked is counted")


def _group(installation: System) -> str:
    return f"{installation.settings.topic_prefix}.resources"


async def test_a_topic_deleted_and_made_again_begins_a_new_life(installation: System) -> None:
    worker = installation.worker()
    await worker.start()
    await installation.send([installation.create(number) for number in range(100)])
    await installation.until_done(100, 60)
    await installation.until_published()
    name = f"{installation.settings.topic_prefix}.commands.resources"
    before = await _topic_id(installation)
    client = AIOKafkaAdminClient(bootstrap_servers=installation.settings.kafka_url)
    await client.start()
    try:
        await client.delete_topics([name])

        async def gone() -> bool:
            return name not in await client.list_topics()

        await until(gone, 30, "the topic is gone")
    finally:
        await client.close()
    await admin.ensure_topics(installation.settings)
    # More than stood in the old one, so that no offset gives it away; some of them once more.
    await installation.send([installation.create(number) for number in range(50, 300)])
    await installation.until_done(300, 60)
    assert await installation.check_created(300) == 0
    rows = await installation.stores.database.fetch("SELECT life, count(*) FROM journal GROUP BY life ORDER BY life")
    assert [row["life"] for row in rows] == [0, 1]
    assert await _topic_id(installation) != before
    assert worker.status is None


async def _topic_id(installation: System) -> UUID:
    from streams.protocol import topic_info

    producer = installation.commands.broker.producer
    assert producer is not None
    name = f"{installation.settings.topic_prefix}.commands.resources"
    found = (await topic_info(producer.client, [name]))[name].id
    assert found is not None
    return found


async def test_a_batch_that_no_client_can_take_apart_stops_its_partition_and_says_so(installation: System) -> None:
    """A header's name that is no UTF-8: aiokafka raises in the middle of the record batch, and can't go past it."""
    worker = installation.worker()
    await worker.start()
    name = f"{installation.settings.topic_prefix}.commands.resources"
    producer = AIOKafkaProducer(bootstrap_servers=installation.settings.kafka_url)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=b"key", value=b"value", headers=[("name", b"x")])
        batch.close()
        raw = bytearray(batch._build())
        at = raw.index(b"name")
        raw[at : at + 4] = b"\xff\xfe\xfd\xfc"
        raw[17:21] = calc_crc32c_py(memoryview(bytes(raw))[21:]).to_bytes(4, "big")
        batch._buffer = raw
        await (await producer.send_batch(batch, name, partition=2))
    finally:
        await producer.stop()

    async def stopped() -> bool:
        rows = await installation.stores.database.fetch("SELECT partition, stopped FROM progress WHERE stopped <> ''")
        return [row["partition"] for row in rows] == [2] and "UnicodeDecodeError" in rows[0]["stopped"]

    await until(stopped, 30, "the partition is stopped, with its reason")
    await installation.send([installation.create(number) for number in range(100)])
    assert await ProgressStore(installation.stores.database).resume(_group(installation), name, 2, 1)
    await installation.until_done(100, 30)
    await installation.check_created(100)
    assert worker.status is None
