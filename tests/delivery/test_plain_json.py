"""Plain JSON in `ingest`: read by the declaration, or told what it lacks; CloudEvents are read as ever."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiokafka.structs import ConsumerRecord

import topics
from agents import analytics
from agents.analytics import MetricTables
from config import Settings
from streams.envelope import Unreadable
from streams.groups import Connections

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLAIN = """
[plain]
id = "id"
type = "kind"
source = { constant = "/plain" }
time = "at"
"""


@pytest_asyncio.fixture(loop_scope="session")
async def reads(own_settings: Settings, tmp_path: Path) -> AsyncIterator[dict[bool, MetricTables]]:
    """The reader with a table [plain], and without."""
    found, opened = {}, []
    for plain in (True, False):
        file = tmp_path / f"{plain}.toml"
        file.write_text(PLAIN if plain else "")
        connections = Connections(msgspec.structs.replace(own_settings, metrics_file=file), "tests")
        opened.append(connections)
        found[plain] = analytics.build(connections, "group")
    yield found
    for connections in opened:
        await connections.close()


def record(value: bytes | None, topic: str = "x." + topics.INGEST.name, **headers: str) -> ConsumerRecord:
    return ConsumerRecord(
        topic=topic, partition=0, offset=0, timestamp=0, timestamp_type=1, key=None, value=value, checksum=None,
        serialized_key_size=0, serialized_value_size=0,
        headers=tuple((name, value.encode()) for name, value in headers.items()),
    )  # fmt: skip


async def test_an_object_is_an_event(reads: dict[bool, MetricTables]) -> None:
    event = reads[True].decode(record(b' {"id": 7, "kind": "order.placed", "at": 1777626000, "big": 1e400}\n'))
    assert (event.id, event.source, event.type) == ("7", "/plain", "order.placed")
    assert event.time.timestamp() == 1777626000


async def test_cloudevents_are_read_as_ever(reads: dict[bool, MetricTables]) -> None:
    structured = b'{"specversion":"1.0","id":"a","source":"/s","type":"t","kind":"other"}'
    binary: dict[str, Any] = {"ce_specversion": "1.0", "ce_id": "b", "ce_source": "/s", "ce_type": "t"}
    for reader in reads.values():
        assert reader.decode(record(structured)).id == "a"
        assert reader.decode(record(b'{"id":"x","kind":"k"}', **binary)).id == "b"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"id":7}', "unmapped"), (b'{"id":{},"kind":"k"}', "unmapped"),
        (b'{"id":7,"kind":"resource.created"}', "reserved"),
        (b'{"id":"","kind":"k"}', "wrong_shape"), (b'{"id":1,"kind":"k","at":"soon"}', "wrong_shape"),
        (b'{"specversion":"1.0","id":7,"kind":"k"}', "wrong_shape"), (b'[{"id":7,"kind":"k"}]', "wrong_shape"),
        (b"rubbish", "not_json"), (b'{"id":"7",', "not_json"), (b"\xff\xfe", "not_json"), (None, "tombstone"),
        (b'{"x":' * 100_000, "too_deep"),
    ],
)  # fmt: skip
async def test_what_is_neither_is_a_dead_letter(reads: dict[bool, MetricTables], value: bytes, code: str) -> None:
    with pytest.raises(Unreadable) as refused:
        reads[True].decode(record(value))
    assert refused.value.code == code


async def test_without_the_table_and_elsewhere_it_is_a_dead_letter(reads: dict[bool, MetricTables]) -> None:
    value = b'{"id": 7, "kind": "order.placed"}'
    for reader, topic in ((reads[False], "x.ingest"), (reads[True], "x.events.resources")):
        with pytest.raises(Unreadable) as refused:
            reader.decode(record(value, topic))
        assert refused.value.code == "wrong_shape"
