"""Sessions in PostgreSQL and Redis: what is swept away, and how word of ended ones gets about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

import stores
from config import Settings
from domain.sessions import ENDED_KEPT, Ended, Session, Sessions
from embedded.state import free_port
from stores import Stores, revocations
from stores.postgres import PIECE
from stores.revocations import Revoked, tell
from stores.sessions import JOURNAL_KEPT, TABLE
from tests.contracts.harness import until
from tests.stores.given import keep

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime.now(UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def session(expires: datetime) -> Session:
    return Session(uuid4(), "f" * 64, "c" * 64, "device", "address", 1, expires - 30 * DAY, NOW, expires)


async def test_a_state_comes_back_as_it_was(opened: Stores) -> None:
    state = Sessions(uuid4(), (session(NOW), session(NOW + DAY)), (Ended(uuid4(), NOW, 3),), 2, 4)
    await keep(opened.database, TABLE, state)
    assert await opened.sessions.get(state.id) == state
    assert await opened.sessions.get(uuid4()) is None


async def test_what_expired_is_swept_away_in_pieces(opened: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.postgres.PIECE", 2)
    live = session(NOW + MINUTE)
    states = [Sessions(UUID(int=n), (session(NOW - MINUTE), live), (), 1, 2) for n in range(5)]
    gone = Sessions(UUID(int=10), (session(NOW - DAY),), (), 1, 7)
    ended = Sessions(UUID(int=11), (live,), (Ended(uuid4(), NOW - ENDED_KEPT - MINUTE, 1),), 1, 2)
    recent = Sessions(UUID(int=12), (), (Ended(uuid4(), NOW - ENDED_KEPT + MINUTE, 1),), 1, 2)
    await keep(opened.database, TABLE, *states, gone, ended, recent)
    assert await opened.sessions.sweep(NOW) == 7
    for state in states:
        assert await opened.sessions.get(state.id) == msgspec.structs.replace(state, held=(live,))
    assert await opened.sessions.get(gone.id) == msgspec.structs.replace(gone, held=())
    assert await opened.sessions.get(ended.id) == msgspec.structs.replace(ended, ended=())
    assert await opened.sessions.get(recent.id) == recent
    assert await opened.sessions.sweep(NOW) == 0
    assert await opened.sessions.sweep(NOW + 2 * MINUTE) == 7


async def test_events_of_sessions_leave_the_journal_and_no_others(
    opened: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.postgres.PIECE", 2)
    old, young = NOW - JOURNAL_KEPT - MINUTE, NOW - JOURNAL_KEPT + MINUTE
    for noun, partition, times in (
        ("sessions", 0, [old] * 5 + [young] * 2), ("sessions", 3, [old]), ("accounts", 0, [old]),
    ):  # fmt: skip
        for offset, at in enumerate(times):
            event = msgspec.json.encode({"time": at, "id": f"{noun}{partition}{offset}"}).decode()
            await opened.database.execute(
                "INSERT INTO journal VALUES ($1, 0, $2, $3, 0, $4, 1, $5)", noun, partition, offset, uuid4(), event
            )
    assert await opened.sessions.sweep(NOW) == 6
    rows = await opened.database.fetch("SELECT noun, command_offset FROM journal ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [("accounts", 0), ("sessions", 5), ("sessions", 6)]


async def test_sweeping_scans_no_table(opened: Stores) -> None:
    await opened.database.execute(
        """INSERT INTO sessions SELECT gen_random_uuid(), '[]', '[]', 1, now() + interval '1 day', NULL, 1
           FROM generate_series(1, 20000)"""
    )
    await opened.database.execute("ANALYZE sessions")
    ended = "ended_at IS NOT NULL AND (ended_at, id) > (now(), $1) ORDER BY ended_at, id"
    for where in ("first_expiry <= now() ORDER BY first_expiry", ended):
        rows = await opened.database.fetch(
            f"EXPLAIN SELECT id FROM sessions WHERE {where} LIMIT 1000", *([uuid4()] if "$1" in where else [])
        )
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan
        assert "sessions_by_" in plan


async def test_many_that_ended_are_read_page_by_page(opened: Stores) -> None:
    count = PIECE * 2 + 1
    at = NOW - MINUTE
    await opened.database.execute(
        """INSERT INTO sessions SELECT id, '[]', json_build_array(json_build_object('id', id, 'at', $2::text,
               'version', 1)), 0, NULL, $2::text::timestamptz, 1
           FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1)) AS made""",
        count,
        at.isoformat(),
    )
    assert len(await opened.sessions.ended(at - MINUTE)) == count
    assert await opened.sessions.ended(at + MINUTE) == {}


# -- word of those that ended ------------------------------------------------------------------------------------------


@asynccontextmanager
async def following(opened: Stores) -> AsyncIterator[Revoked]:
    """As a front process follows it."""
    revoked = Revoked(opened.database, opened.redis)
    async with revoked.following():
        yield revoked


async def known(revoked: Revoked, session: UUID) -> None:
    async def yes() -> bool:
        return session in revoked

    await until(yes)


async def soonest(revoked: Revoked, end: Callable[[Ended], Awaitable[None]]) -> float:
    """How soon it is known that a session has ended, seconds: the best of three, for the machine may be busy."""
    took = []
    for _ in range(3):
        one = Ended(uuid4(), datetime.now(UTC), 1)
        assert one.id not in revoked
        ended_at = time.monotonic()
        await end(one)
        await known(revoked, one.id)
        took.append(time.monotonic() - ended_at)
    return min(took)


async def test_word_comes_by_redis_alone(opened: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "SYNC_S", 1e9)

    async def end(one: Ended) -> None:
        await tell(opened.redis, [one, Ended(uuid4(), datetime.now(UTC), 1)])

    async with following(opened) as revoked:
        assert await soonest(revoked, end) < 1.0  # what is promised
        assert len(revoked._until) == 6
    async with following(opened) as later:
        for one in revoked._until:
            await known(later, one)
    assert 0 < await opened.redis.client.ttl(revocations._key(opened.redis)) <= ENDED_KEPT.total_seconds()


async def test_word_comes_by_postgresql_while_redis_is_away(own_settings: Settings, opened: Stores) -> None:
    away = msgspec.structs.replace(own_settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")

    async def end(one: Ended) -> None:
        await keep(opened.database, TABLE, Sessions(uuid4(), (), (one,), 0, 1))

    async with stores.open(away) as without, following(without) as revoked:
        assert await soonest(revoked, end) < 1.0  # what is promised


async def test_what_was_not_told_to_redis_is_found_in_postgresql(
    opened: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "SYNC_S", 0.5)
    monkeypatch.setattr(revocations, "FIRST_S", 30.0)  # so that it begins when all is known, and not before
    before = Ended(uuid4(), datetime.now(UTC) - 10 * MINUTE, 1)
    state = Sessions(uuid4(), (), (before,), 0, 1)
    await keep(opened.database, TABLE, state)
    async with following(opened) as revoked:
        assert before.id in revoked  # at the start
        one = Ended(uuid4(), datetime.now(UTC), 2)
        await keep(opened.database, TABLE, msgspec.structs.replace(state, ended=(before, one), version=2))
        await known(revoked, one.id)


async def test_whoever_watches_a_session_is_called_once(opened: Stores) -> None:
    revoked = Revoked(opened.database, opened.redis)
    calls: list[str] = []
    session = uuid4()
    with revoked.watch(session, lambda: calls.append("one")), revoked.watch(None, lambda: calls.append("none")):
        with revoked.watch(session, lambda: calls.append("two")):
            pass
        revoked.add(session)
        revoked.add(session)
    assert calls == ["one"]
    assert revoked._watched == {}


async def test_it_is_forgotten_when_no_token_of_it_can_be_about(
    opened: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "PURGE_S", 0.01)
    long_ago = Ended(uuid4(), datetime.now(UTC) - ENDED_KEPT, 1)
    await tell(opened.redis, [long_ago])
    async with following(opened) as revoked:
        session = uuid4()
        revoked.add(session, time.time() - 1)

        async def gone() -> bool:
            return session not in revoked

        await until(gone)
        assert long_ago.id not in revoked


async def test_rubbish_in_redis_is_no_reason_to_trust_everybody(
    opened: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    key: Any = revocations._key(opened.redis)
    async with following(opened) as revoked:
        await opened.redis.client.xadd(key, {"ended": b"rubbish"})
        one = Ended(uuid4(), datetime.now(UTC), 1)
        await tell(opened.redis, [one])
        await asyncio.wait_for(known(revoked, one.id), 30)
    assert "ended sessions could not be read" in caplog.text
