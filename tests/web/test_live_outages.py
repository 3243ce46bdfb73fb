"""Live tables when something is away, slow, too much, or ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from domain.boards import PART_BYTES
from domain.tables import Table
from stores import StoresAway
from stores.live import Changes, RedisAway
from stores.totals import Row
from tests.contracts.harness import HANG_S
from tests.web.conftest import Client
from tests.web.fakes import SETTINGS, Fakes
from tests.web.watching import MINUTE, PATH, Stream, metric, row, text, until
from web import live, views, watchers
from web.app import create
from web.parts import DOOR, PARTS


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
        began = time.monotonic()
        for n in range(1, 41):
            store.channel.put_nowait(Changes([row(n)]))
            await asyncio.sleep(0.01)
        while 40 not in told:
            told += (await stream.counts("rows")).values()
        # 40 changes in half a second, or as long as the machine took.
        assert len(told) <= (time.monotonic() - began) / 0.2 + 2


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
