"""Sessions that a front announces: an event of ours without anything personal, and nobody waits for it."""

import asyncio
import logging
from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

import stores
from config import Settings
from embedded.state import free_port
from streams.publish import Commands
from tests.commands.conftest import Path
from topics import EVENTS_SESSIONS

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_S = 60.0


async def test_a_session_is_an_event_of_its_account(path: Path) -> None:
    account = uuid4()
    path.commands.announce_session(account, request_id="r-1")
    consumer = AIOKafkaConsumer(
        EVENTS_SESSIONS.full_name(path.settings.topic_prefix),
        bootstrap_servers=path.settings.kafka_url,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), HANG_S)
    await consumer.stop()
    event = msgspec.json.decode(record.value)
    assert (event["type"], event["source"], event["specversion"]) == ("session.started", "/yeoul/web", "1.0")
    assert event["subject"] == event["actor"] == str(account) == record.key.decode()
    assert event.keys() <= {
        "id", "source", "type", "subject", "time", "actor", "requestid", "specversion", "datacontenttype"
    }  # fmt: skip


async def test_without_kafka_it_is_said_once_and_let_go(
    installation: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    away = msgspec.structs.replace(installation, kafka_url=f"127.0.0.1:{free_port(set())}")
    async with stores.open(away) as opened, Commands.open(away, opened) as commands:
        with caplog.at_level(logging.WARNING, "yeoul.streams.publish"):
            for _ in range(3):
                commands.announce_session(uuid4())
    said = [record for record in caplog.records if "sessions are not announced" in record.message]
    assert len(said) == 1
