"""The metrics that are there from the start count what they say, of real topics."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio

import stores
import topics
from agents import analytics
from agents import sessions as worker_sessions
from config import Settings
from domain.access import Actor, Role
from domain.nouns import NOUNS
from domain.sessions import RefreshSession, StartSession
from stores import migrations
from streams import identity
from streams import producer as producers
from streams.admin import ensure_topics
from streams.envelope import sequence
from streams.groups import Connections
from streams.publish import Answer, Commands, Order
from streams.runtime import Running
from tests.contracts.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def connections(own_settings: Settings) -> AsyncIterator[Connections]:
    await migrations.apply(own_settings.postgres_url)
    await ensure_topics(own_settings)
    connections = Connections(own_settings, "tests")
    await connections.broker.start()
    running = Running(connections, analytics.GROUP)
    running.start()
    yield connections
    await running.stop()
    await connections.close()


async def counted(connections: Connections, name: str) -> dict[tuple[int, str], int]:
    rows = await connections.database.fetch(
        """SELECT pane, grp, sum(n)::bigint AS n FROM metric_days
           WHERE metric = (SELECT id FROM metrics WHERE name = $1) AND measure = 'count' GROUP BY pane, grp""",
        name,
    )
    return {(row["pane"], row["grp"]): row["n"] for row in rows}


async def test_active_users(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers, "PROBE_TIMEOUT_S", 10.0)  # who stands still for a second is not away
    sessions = Running(connections, worker_sessions.GROUP)
    sessions.start()
    settings = connections.settings
    async with stores.open(settings) as opened, Commands.open(settings, opened) as commands:
        for number in [*range(5), 3]:
            account, session = UUID(int=number), identity.uuid7()
            start = StartSession(session, "f" * 64, "1" * 64, "device", "address", 1)
            refresh = RefreshSession(session, "f" * 64, "1" * 64, "2" * 64, "address")
            for kind, command in (("start_session", start), ("refresh_session", refresh)):
                order = Order(
                    noun="sessions", type=kind, aggregate_id=account, operation=identity.new_operation(),
                    actor=Actor(account, Role.USER), data=msgspec.json.encode(command), fingerprint=kind,
                )  # fmt: skip
                answer = await commands.submit(order, wait=30)
                assert isinstance(answer, Answer)
                assert answer.outcome == "succeeded"

        async def all_of_them() -> bool:
            return await counted(connections, "active_users") == {(86_400, "[]"): 12, (-1, "[]"): 12}

        await until(all_of_them)
    await sessions.stop()
    rows = await connections.database.fetch("SELECT sketch FROM metric_days WHERE measure = 'users' AND pane = -1")
    assert rows
    assert all(row["sketch"] for row in rows)


async def test_events_of_every_noun(connections: Connections) -> None:
    producer = connections.broker.producer
    assert producer is not None
    for name, noun in NOUNS.items():
        topic = topics.EVENTS_OF[name].full_name(connections.settings.topic_prefix)
        for number, kind in enumerate(noun.EVENTS):
            event = {
                "specversion": "1.0", "id": str(number), "source": f"/yeoul/{name}", "type": kind, "subject": "x",
                "sequence": sequence(0, number, 0), "data": {},
            }  # fmt: skip
            await producer.send_and_wait(topic, msgspec.json.encode(event), b"key")

    async def all_of_them() -> bool:
        found = await counted(connections, "events")
        return found == {
            (86_400, f'["/yeoul/{name}","{kind}"]'): 1 for name, noun in NOUNS.items() for kind in noun.EVENTS
        }

    await until(all_of_them)


async def test_dead_letters_by_reason_and_none_about_a_dead_letter(connections: Connections) -> None:
    producer = connections.broker.producer
    assert producer is not None
    prefix = connections.settings.topic_prefix
    await producer.send_and_wait(topics.INGEST.full_name(prefix), b"no event", b"key")
    stranger = b'{"specversion":"1.0","id":"1","source":"/shop","type":"session.started","subject":"x"}'
    await producer.send_and_wait(topics.INGEST.full_name(prefix), stranger, b"key")
    # On our own topic it is no session either, if its owner did not write it; what older fronts announced is skipped.
    announced = b'{"specversion":"1.0","id":"1","source":"/yeoul/web","type":"session.started","subject":"x"}'
    await producer.send_and_wait(topics.EVENTS_SESSIONS.full_name(prefix), announced, b"key")
    await producer.send_and_wait(topics.EVENTS_SESSIONS.full_name(prefix), stranger, b"key")
    # A copy that can't be read is parked, and has no copy of its own.
    await producer.send_and_wait(topics.DEAD_LETTERS.full_name(prefix), b"no copy", uuid4().bytes)
    group = f"{prefix}.analytics"

    async def parked() -> bool:
        rows = await connections.database.fetch("SELECT topic FROM dead_letters")
        return len(rows) >= 4

    await until(parked)

    async def all_of_them() -> bool:
        found = await counted(connections, "dead_letters")
        return found == {
            (86_400, f'["{group}","not_json"]'): 1,
            (86_400, f'["{group}","reserved"]'): 1,
            (86_400, f'["{group}","wrong_shape"]'): 1,
        }

    await until(all_of_them)
    assert await counted(connections, "active_users") == {}
