"""Parked events of which an erasure has taken the contents: their group still counts each once, by what is left."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio

import topics
from config import Settings
from stores.belongings import CONTENTS
from stores.dead_letters import ERASED, Parked
from streams.envelope import Event, sequence, source_of, write
from streams.groups import Connections
from tests.contracts.harness import until
from tests.delivery.counting import build, counting, opened, rows
from tests.stores.given import letters

pytestmark = pytest.mark.asyncio(loop_scope="session")

DECLARED = """
[metrics.{name}]
events = ["resource.created"]
group_by = ["data.kind", "data.attributes.shop", "data.tags"]
windows = {{ day = "90d" }}
[metrics.{name}.measures]
revenue = {{ sum = "data.attributes.total" }}
most = {{ max = "data.attributes.total" }}
titles = {{ distinct = "data.title" }}
pages = {{ top = "data.body", most = 2 }}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def connections(own_settings: Settings, tmp_path: Path) -> AsyncIterator[Connections]:
    async with opened(own_settings, tmp_path, "".join(DECLARED.format(name=name) for name in ("orders", "twin"))) as it:
        yield it


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)


def topic_of(connections: Connections) -> str:
    return topics.EVENTS_RESOURCES.full_name(connections.settings.topic_prefix)


async def send(connections: Connections, number: int, subject: UUID) -> None:
    """`resource.created` as its owner writes it, all to one partition."""
    data = {
        "kind": "note", "title": "their words", "body": "their words", "tags": [], "visibility": "public",
        "attributes": {"shop": "their words", "total": 7}, "status": "open", "owner_id": str(subject),
    }  # fmt: skip
    event = Event(
        id=str(number), source=source_of("resources"), type="resource.created", subject=subject,
        time=datetime.now(UTC), sequence=sequence(0, number, 0), operation=uuid4(), aggregateversion=1,
        data=msgspec.Raw(msgspec.json.encode(data)),
    )  # fmt: skip
    producer: Any = connections.broker.producer
    await producer.send_and_wait(topic_of(connections), write(event), str(subject).encode(), partition=0)


async def parked(connections: Connections, monkeypatch: pytest.MonkeyPatch, subject: UUID) -> Parked:
    """An event about this that the group could not count, with one before and one behind it that it could."""

    def fails(*_: Any) -> Any:
        raise ValueError("their words")

    group = f"{connections.settings.topic_prefix}.analytics"
    for number, about in enumerate((uuid4(), subject, uuid4())):
        with monkeypatch.context() as broken:
            if about == subject:
                broken.setattr("agents.analytics.add_up", fails)
            await send(connections, number, about)

            async def passed(count: int = number + 1) -> bool:
                row = await connections.database.fetchrow(
                    "SELECT sum(next_offset) AS at FROM progress WHERE consumer_group = $1 AND topic = $2",
                    group,
                    topic_of(connections),
                )
                return bool(row["at"] == count)

            await until(passed)
    # The same group reads the copy of it, and may have failed by that too.
    found = await letters(connections.dead_letters, group=group)
    (letter,) = (letter for letter in found if letter.topic == topic_of(connections))
    return letter


async def emptied(connections: Connections, letter: Parked, subject: UUID) -> Parked:
    await connections.dead_letters.empty_events(topic_of(connections), [subject], CONTENTS)
    found = await connections.dead_letters.get(letter.id)
    assert found is not None
    return found


async def counted(connections: Connections) -> dict[tuple[str | None, ...], int]:
    found = await connections.database.fetch(
        """SELECT grp, sum(n)::int AS n FROM metric_days WHERE measure = 'count' AND grp <> '' AND metric =
               (SELECT id FROM metrics WHERE name = 'twin' AND state = 'serving') GROUP BY grp"""
    )
    return {tuple(msgspec.json.decode(row["grp"])): row["n"] for row in found}


async def test_an_emptied_event_is_counted_by_what_is_left_of_it(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = uuid4()
    async with counting(connections):
        letter = await parked(connections, monkeypatch, subject)
        assert (letter.subject, letter.code) == (subject, "handler_failed")
        left = await emptied(connections, letter, subject)
        assert (left.state, left.error, left.headers) == ("parked", ERASED, letter.headers)
        assert b"their words" not in (left.value or b"")
        before = await counted(connections)
        assert sum(before.values()) == 2
        assert await connections.dead_letters.settle(letter.id, "requested")

        async def replayed() -> bool:
            found = await connections.dead_letters.get(letter.id)
            assert found is not None
            assert found.error == ERASED
            return found.state == "replayed"

        await until(replayed)
        assert await counted(connections) == before | {("note", None, None): 1}


async def test_a_rebuild_leaves_out_an_emptied_event_of_an_earlier_life_that_stands_where_it_stood(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = uuid4()
    async with counting(connections):
        letter = await parked(connections, monkeypatch, subject)
        left = await emptied(connections, letter, subject)
        assert left.value != letter.value
    # As after the log has lost what stood behind: the partition went back, and this record is still there.
    life = uuid4()
    await connections.database.execute(
        """INSERT INTO topic_lives (topic, topic_id, life, kafka_id)
           SELECT topic, $2, life + 1, topic_id FROM topic_lives WHERE topic = $1""",
        topic_of(connections),
        life,
    )
    await connections.database.execute(
        "UPDATE progress SET topic_id = $2 WHERE topic = $1 AND partition = 0", topic_of(connections), life
    )
    await build(connections).run()
    twin = await rows(connections, "twin")
    assert twin
    assert await rows(connections, "orders") == twin
