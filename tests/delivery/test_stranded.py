"""A group that Kafka's client left for good, without an error, starts anew."""

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY

from config import Settings
from streams import runtime
from streams.admin import ensure_topics
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene


async def test_a_group_that_lost_its_partitions_for_good_starts_anew(
    settings: Settings, scene: MakeScene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "LOOK_EVERY_S", 0.2)
    async with await scene() as notes:
        await notes.note("before")
        await notes.reaches(1)
        monkeypatch.setattr(runtime, "STRANDED_S", 2.0)
        await ensure_topics(settings)
        await notes.connections.broker.start()  # it is known to be there: an outage would be waited for
        left = notes.running.app
        kafka: Any = notes.running.consumer._thread.kafka  # type: ignore[union-attr]
        # As if nobody had fetched for max_poll_interval: the next heartbeat leaves, and nothing joins again.
        kafka._coordinator._max_poll_interval = 0.1
        kafka._subscription._fetch_count = 0
        await until(lambda: notes.running.app is not left)
        monkeypatch.setattr(runtime, "STRANDED_S", 60.0)
        await notes.note("after")
        await notes.reaches(2)
        await until(lambda: notes.running.state() == "ok")
        assert await notes.notes() == ["before", "after"]
        assert "has waited 2 s for its partitions" in caplog.text
        assert REGISTRY.get_sample_value("yeoul_group_restarts_total", {"group": notes.group}) == 1.0


async def test_a_group_that_has_its_partitions_and_nothing_to_do_is_left_alone(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "LOOK_EVERY_S", 0.1)
    async with await scene() as notes:
        await until(lambda: notes.running.state() == "ok")
        monkeypatch.setattr(runtime, "STRANDED_S", 0.5)
        app = notes.running.app
        await notes.note("one")
        await notes.reaches(1)
        # It is waited for, three times as long as a stranded group is given, and does not come.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await until(lambda: notes.running.app is not app)
