"""Live tables over HTTP: a snapshot, changed rows, and what happens to readers that may not, are slow or come back."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from domain.access import Role
from domain.boards import PART_BYTES
from domain.metrics import declared
from domain.tables import Slot, Table
from stores import StoresAway
from stores.live import Changes, RedisAway
from stores.totals import Row
from tests.contracts.harness import HANG_S
from tests.web.conftest import ADMIN, OWNER, Client
from tests.web.fakes import SETTINGS, Fakes
from web import live, views, watchers
from web.app import create
from web.parts import DOOR, PARTS

PATH = "/api/v1/analytics/orders/live"
NOW = int(time.time())
MINUTE = NOW - NOW % 60
STRANGE = "<img src=x onerror=alert(1)>"


def metric(public: bool = True, **more: Any) -> Any:
    fields = {
        "events": ["order.*"],
        "group_by": ["data.shop"],
        "measures": {"revenue": {"sum": "data.total"}},
        "windows": {"minute": "2d", "10m/5m": "2d", "month": "5y"},
        "public": public,
        **more,
    }
    (found,), complaints = declared({"orders": fields})
    assert not complaints
    return found


def row(n: int, *, start: int = MINUTE, shop: str = "a", feed: str = "events/0", table: int = 1, pane: int = 60) -> Row:
    return Row(Slot(table, pane, start, msgspec.json.encode([shop]).decode()), "count", feed, n)


class Stream:
    """The events of an answer, one after the other."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer
        self.comments = 0

    async def next(self) -> tuple[str, Any]:
        fields: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self.answer.content.readline(), 10)).decode()
            if not line:
                raise EOFError
            if line.startswith(":"):
                self.comments += 1
            elif line == "\n":
                if fields:
                    assert fields["id"]
                    return fields["event"], json.loads(fields["data"])
            else:
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value

    async def counts(self, event: str) -> dict[tuple[str, str], int]:
        name, data = await self.next()
        assert name == event
        return {(each["start"], each["group"]["data.shop"]): each["count"] for each in data["rows"]}


@pytest.fixture
def watched(client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Opens the stream of a metric that is there."""
    monkeypatch.setattr(watchers, "EVERY_S", 0.01)
    monkeypatch.setattr(fakes.live, "clock", lambda: NOW)  # however long the other tests took since
    fakes.stores.watching.serving.setdefault("orders", Table(1, metric()))

    @contextlib.asynccontextmanager
    async def opened(query: str = "", **headers: str) -> AsyncIterator[Stream]:
        async with client.get(PATH + query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            yield Stream(answer)

    return opened


def text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


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


async def test_an_admins_stream_ends_with_the_token(client: Client, fakes: Fakes) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric(public=False))
    token = fakes.tokens.issue(ADMIN, Role.ADMIN, time.time() - 899)
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


async def test_all_watchers_of_a_metric_share_one_channel(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    store.found = [row(1)]
    async with watched() as first, watched() as second, watched("?window=month") as third:
        for stream in (first, second, third):
            assert (await stream.next())[0] == "snapshot"
        store.channel.put_nowait(Changes([row(2)]))
        assert await first.counts("rows") == await second.counts("rows") == {(text(MINUTE), "a"): 2}
        assert store.order == ["listen orders", "rows", "rows"]
    await until(lambda: store.order[-1] == "closed orders")
    async with watched() as again:
        assert (await again.next())[0] == "snapshot"
        assert store.order.count("listen orders") == 2


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_after_redis_was_away_comes_a_new_snapshot(
    watched: Any, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "AGAIN_S", 0.01)
    store = fakes.stores.watching
    store.found = [row(1)]
    async with watched() as stream:
        assert await stream.counts("snapshot") == {(text(MINUTE), "a"): 1}
        store.found = [row(7)]  # what was told while nobody could hear it
        store.channel.put_nowait(RedisAway("gone"))
        seen = await stream.next()
        while seen[0] != "snapshot":
            seen = await stream.next()
        assert seen[1]["rows"][0]["count"] == 7


@pytest.mark.parametrize("state", ["silent", "told to read"])
async def test_what_was_told_to_nobody_is_read(
    watched: Any, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(watchers, "REFRESH_S", 0.05 if state == "silent" else 60.0)
    store = fakes.stores.watching
    store.found = [row(1)]
    async with watched() as stream:
        assert await stream.counts("snapshot") == {(text(MINUTE), "a"): 1}
        store.found = [row(7)]
        if state != "silent":
            store.channel.put_nowait(Changes(all=True))
        assert await stream.counts("rows") == {(text(MINUTE), "a"): 7}


async def test_an_outage_of_postgresql_ends_nobody(watched: Any, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "REFRESH_S", 0.05)
    store = fakes.stores.watching
    async with watched() as stream:
        assert await stream.counts("snapshot") == {}
        store.raises = StoresAway("gone")
        async with watched_status(stream, 503) as answer:
            assert (await answer.json())["error"]["code"] == "STORES_AWAY"
        store.found, store.raises = [row(7)], None
        assert await stream.counts("rows") == {(text(MINUTE), "a"): 7}


@contextlib.asynccontextmanager
async def watched_status(stream: Stream, status: int) -> AsyncIterator[ClientResponse]:
    async with stream.answer._session.get(stream.answer.url) as answer:  # type: ignore[union-attr]
        assert answer.status == status
        yield answer


async def test_another_table_ends_the_stream(watched: Any, fakes: Fakes) -> None:
    store = fakes.stores.watching
    async with watched() as stream:
        assert await stream.counts("snapshot") == {}
        store.serving["orders"] = Table(2, metric())
        store.channel.put_nowait(Changes([row(1, table=2)]))
        assert (await stream.next())[0] == "changed"
    store.found = [row(1, table=2), row(5)]
    async with watched(**{"Last-Event-ID": "1.1"}) as stream:
        assert await stream.counts("snapshot") == {(text(MINUTE), "a"): 1}


async def test_a_silent_stream_has_a_heartbeat(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    async with watched() as stream:
        await stream.next()
        assert (await asyncio.wait_for(stream.answer.content.readline(), 5)).startswith(b":")


async def test_changes_come_once_a_second(watched: Any, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "EVERY_S", 0.2)
    store = fakes.stores.watching
    async with watched() as stream:
        await stream.next()
        told: list[int] = []
        for n in range(1, 41):
            store.channel.put_nowait(Changes([row(n)]))
            await asyncio.sleep(0.01)
        while 40 not in told:
            told += (await stream.counts("rows")).values()
        assert len(told) < 10


async def test_too_many_watchers_and_too_many_rows(
    watched: Any, client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fakes.stores.watching
    async with watched() as stream:
        await stream.next()
        monkeypatch.setattr(watchers, "MOST_WATCHERS", 1)
        answer = await client.get(PATH)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        monkeypatch.setattr(watchers, "MOST_WATCHERS", 9)
        monkeypatch.setattr(watchers, "MOST_ROWS", 1)
        store.found = [row(1), row(1, shop="b")]
        answer = await client.get(PATH + "?window=month")
        assert (answer.status, (await answer.json())["error"]["code"]) == (422, "ANSWER_TOO_LARGE")
        store.channel.put_nowait(Changes(all=True))
        assert (await stream.next())[0] == "too_many_rows"


async def test_views_that_are_read_at_once_share_one_room(
    watched: Any, client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them alone would find the whole room free before any of them is read."""
    store = fakes.stores.watching
    store.found = [row(1, shop=str(shop)) for shop in range(10)]
    monkeypatch.setattr(watchers, "MOST_BYTES_IN_ALL", 25 * PART_BYTES)
    hold, waiting = asyncio.Event(), 0
    rows = store.rows

    async def all_at_once(*asked: Any) -> list[Row]:
        nonlocal waiting
        waiting += 1
        if waiting == 4:
            hold.set()
        await hold.wait()
        return await rows(*asked)

    monkeypatch.setattr(store, "rows", all_at_once)

    async def status(last: int) -> int:
        async with client.get(f"{PATH}?since={text(MINUTE - 60 * last)}") as answer:
            return answer.status

    found = await asyncio.wait_for(asyncio.gather(*(status(last) for last in range(1, 5))), HANG_S)
    assert sorted(found) == [200, 200, 422, 422]
    # And of those that grow together, one goes.
    store.found = []
    async with watched(f"?since={text(MINUTE - 60 * 9)}") as one, watched(f"?since={text(MINUTE - 60 * 8)}") as other:
        await one.next()
        await other.next()
        store.channel.put_nowait(Changes([row(1, shop=str(shop)) for shop in range(15)]))
        assert sorted([(await one.next())[0], (await other.next())[0]]) == ["rows", "too_many_rows"]


@pytest.mark.parametrize("how", ["too many rows wait", "it takes nothing for too long"])
async def test_a_slow_reader_is_cut(watched: Any, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(live, "STALL_S", 60.0 if how == "too many rows wait" else 0.3)
    monkeypatch.setattr(views, "MOST_PENDING", 10 if how == "too many rows wait" else 1_000_000)
    monkeypatch.setattr(live, "LINGER_S", 60.0)
    store = fakes.stores.watching
    wide = "x" * 20_000
    async with watched() as stream:
        await stream.next()
        # Nothing is read from here on, until the front has cut: wide rows fill every buffer on the way.
        n = 0
        async with asyncio.timeout(60):
            while _going(fakes.live):
                n += 1
                store.channel.put_nowait(Changes([row(n, shop=f"{shop}{wide}") for shop in range(15)]))
                await asyncio.sleep(0.02)
        name = ""
        while name != "too_slow":
            name, _ = await stream.next()
        with pytest.raises(EOFError):
            await stream.next()


def _going(hub: watchers.Hub) -> bool:
    seen = [seen for broadcast in hub._broadcasts.values() for seen in broadcast.views.values()]
    return any(not watcher.end for each in seen for watcher in each.watchers)


async def test_those_who_watch_what_is_declared_in_another_way_by_now_are_told_of_the_end_too(fakes: Fakes) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric())
    app = create(SETTINGS, fakes.open)
    async with TestClient(TestServer(app)) as client, client.get(PATH) as answer:
        stream = Stream(answer)
        await stream.next()
        fakes.stores.watching.serving["orders"] = Table(1, metric(title="Another"))
        async with client.get(PATH) as second:
            await Stream(second).next()
            fakes.live.stop()
            assert (await stream.next())[0] == "closing"


async def test_a_front_that_ends_says_so(fakes: Fakes) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric())
    app = create(SETTINGS, fakes.open)
    async with TestClient(TestServer(app)) as client, client.get(PATH) as answer:
        stream = Stream(answer)
        assert (await stream.next())[0] == "snapshot"
        await app[DOOR].close(10.0)
        assert app[DOOR].running == 0
        assert (await stream.next())[0] == "closing"
        assert app[PARTS].live is fakes.live
    assert fakes.stores.watching.order[-1] == "closed orders"


async def test_head_opens_nothing(client: Client, fakes: Fakes) -> None:
    fakes.stores.watching.serving["orders"] = Table(1, metric())
    answer = await client.head(PATH)
    assert "search-address" in answer.headers["RateLimit"]
    assert (answer.status, fakes.stores.watching.order) == (200, [])
