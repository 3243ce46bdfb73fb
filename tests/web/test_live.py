"""Live tables over HTTP: a snapshot, changed rows, and what happens to readers that may not, are slow or come back."""

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from domain.access import Role
from domain.tables import Table
from stores.live import Changes
from stores.totals import Row
from tests.web.conftest import ADMIN, OWNER, Client
from tests.web.fakes import Fakes
from tests.web.watching import MINUTE, NOW, PATH, Stream, metric, row, text, until
from web import watchers


async def test_first_the_last_windows_then_what_changes(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    store.found = [row(2), row(3, feed="events/1"), row(9, start=MINUTE - 59 * 60), row(9, start=MINUTE - 60 * 60)]
    store.found.append(Row(row(1).slot, "revenue", "events/1", 3, Decimal("10.50"), Decimal(1), Decimal(9)))
    async with watched() as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        assert stream.answer.headers["Cache-Control"] == "no-store"
        assert stream.answer.headers["X-Request-Id"]
        name, data = await stream.next()
        assert name == "snapshot"
        assert (data["metric"], data["window"], data["group_by"]) == ("orders", "minute", ["data.shop"])
        assert data["measures"] == [{"name": "count", "kind": "count"}, {"name": "revenue", "kind": "sum"}]
        # All feeds of a row together; what is no longer among the last 60 minutes is left out.
        assert data["rows"] == [
            {"start": text(MINUTE - 59 * 60), "group": {"data.shop": "a"}, "count": 9, "revenue": 0},
            {"start": text(MINUTE), "group": {"data.shop": "a"}, "count": 5, "revenue": 10.5},
        ]
        store.channel.put_nowait(Changes([row(4)]))
        assert await stream.counts("rows") == {(text(MINUTE), "a"): 7}
    assert store.order[:2] == ["listen orders", "rows"]


async def test_an_older_total_never_replaces_a_newer_one(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    store.found = [row(5)]
    async with watched() as stream:
        assert await stream.counts("snapshot") == {(text(MINUTE), "a"): 5}
        store.channel.put_nowait(Changes([row(3), row(5)]))  # what was told before it was read
        store.channel.put_nowait(Changes([row(6), row(4), row(1, shop="b")]))
        assert await stream.counts("rows") == {(text(MINUTE), "a"): 6, (text(MINUTE), "b"): 1}


async def test_what_comes_while_the_table_is_read_counts(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    store.found = [row(5)]
    store.before_rows = lambda: store.channel.put_nowait(Changes([row(8)]))
    async with watched() as stream:
        name, data = await stream.next()
        seen = [data["rows"][0]["count"]]
        while seen[-1] != 8:
            name, data = await stream.next()
            seen.append(data["rows"][0]["count"])
        assert name in ("snapshot", "rows")
        assert seen == sorted(seen)


async def test_sliding_windows_are_told_as_a_whole(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    start = NOW - NOW % 300
    store.found = [row(2, start=start - 300, pane=300)]
    async with watched("?window=10m/5m") as stream:
        assert await stream.counts("snapshot") == {(text(start - 600), "a"): 2, (text(start - 300), "a"): 2}
        store.channel.put_nowait(Changes([row(3, start=start, pane=300), row(7)]))
        assert await stream.counts("rows") == {(text(start - 300), "a"): 5, (text(start), "a"): 3}


async def test_months_groups_and_since(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    month = int(datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())
    store.found = [row(2, start=month, pane=-1), row(4, start=month, pane=-1, shop="b"), row(1), row(2, shop="b")]
    store.found.append(row(8, shop="b", start=MINUTE - 120))
    async with watched("?window=month&group[data.shop]=b") as stream:
        assert await stream.counts("snapshot") == {(text(month), "b"): 4}
    async with watched(f"?since={text(MINUTE - 60)}&group[data.shop]=b") as stream:
        assert await stream.counts("snapshot") == {(text(MINUTE), "b"): 2}
        store.channel.put_nowait(Changes([row(3), row(5, shop="b")]))
        assert await stream.counts("rows") == {(text(MINUTE), "b"): 5}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?window=day", "window"), ("?since=yesterday", "since"), ("?since=2026-01-01", "since"),
        ("?since=0001-01-01T00:00:00%2B09:00", "since"), ("?group[data.buyer]=x", "group[data.buyer]"),
        ("?token=x", "token"), ("?window=minute&window=minute", "window"),
        ("?group[data.shop]=%00", "group[data.shop]"),
    ],
)  # fmt: skip
async def test_wrong_questions_are_refused_by_name(client: Client, fakes: Fakes, query: str, field: str) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric())
    answer = await client.get(PATH + query)
    assert (answer.status, (await answer.json())["error"]["details"][0]["field"]) == (400, field)


async def test_a_metric_that_is_not_public_is_for_admins(client: Client, fakes: Fakes, bearer: Any) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric(public=False))
    assert (await client.get(PATH)).status == 404
    assert (await client.get(PATH, headers=bearer(OWNER))).status == 404
    assert (await client.get("/api/v1/analytics/none/live", headers=bearer(ADMIN, Role.ADMIN))).status == 404
    assert (await client.get(PATH, headers={"Authorization": "Bearer x"})).status == 401
    async with client.get(PATH, headers=bearer(ADMIN, Role.ADMIN)) as answer:
        assert (await Stream(answer).next())[0] == "snapshot"


async def test_an_admins_stream_ends_with_the_token(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Streams have a clock that is ahead of that of tokens: this one is good, and ends within a second.
    monkeypatch.setattr(fakes.live, "clock", lambda: time.time() + 899)
    fakes.stores.watching.serving["orders"] = Table(1, metric(public=False))
    token = fakes.tokens.issue(ADMIN, Role.ADMIN, time.time())
    async with client.get(PATH, headers={"Authorization": f"Bearer {token}"}) as answer:
        stream = Stream(answer)
        assert (await stream.next())[0] == "snapshot"
        assert (await stream.next())[0] == "expired"
        with pytest.raises(EOFError):
            await stream.next()


async def test_who_may_see_it_may_not_once_the_session_ended(client: Client, fakes: Fakes) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric(public=False))
    session = UUID(int=7)
    token = fakes.tokens.issue(ADMIN, Role.ADMIN, time.time(), session)
    async with client.get(PATH, headers={"Authorization": f"Bearer {token}"}) as answer:
        stream = Stream(answer)
        assert (await stream.next())[0] == "snapshot"
        fakes.stores.revoked.add(session)
        assert (await stream.next())[0] == "expired"
        with pytest.raises(EOFError):
            await stream.next()
    assert fakes.stores.revoked.calls == []


@pytest.mark.parametrize("turns", range(5))
async def test_a_channel_ends_also_at_the_moment_in_which_something_comes(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(watchers, "EVERY_S", 0.0)
    fakes.stores.watching.serving["orders"] = Table(1, metric())
    broadcast = watchers.Broadcast(fakes.stores.watching, Table(1, metric()), lambda: NOW, lambda: 0)
    await until(lambda: broadcast._opened.is_set() and bool(broadcast._woken._waiters))
    broadcast._woken.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await broadcast.stop()


async def test_head_opens_nothing(client: Client, fakes: Fakes) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric())
    answer = await client.head(PATH)
    assert "search-address" in answer.headers["RateLimit"]
    assert (answer.status, fakes.stores.watching.order) == (200, [])
