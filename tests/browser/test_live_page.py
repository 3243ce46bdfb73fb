"""The page of live tables in a real browser: it moves, it is safe, it says when it is disconnected."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from domain import sketches
from domain.access import Role
from domain.metrics import Metric, declared
from domain.tables import Slot, Table
from embedded.state import free_port
from stores.live import Changes
from stores.totals import Row
from tests.browser import cdp
from tests.web.conftest import ADMIN
from tests.web.fakes import SETTINGS, Fakes
from web import watchers
from web.app import create

HOSTILE = "<img src=x onerror='document.title=1'><script>document.title=2</script>"
SHOPS = ("Seoul", "Busan", "Jeju")


def metrics() -> tuple[Metric, ...]:
    """Two metrics: one for everybody, one for admins."""
    fields = {
        "title": f"Orders {HOSTILE}",
        "events": ["order.*"],
        "group_by": ["data.shop"],
        "measures": {"revenue": {"sum": "data.total"}, "size": {"percentiles": "data.total", "at": [99, 99.9]}},
        "windows": {"minute": "2d", "hour": "90d"},
    }
    found, complaints = declared({"orders": {**fields, "public": True}, "secret": fields})
    assert not complaints
    return found


def row(n: int, shop: str, age: int = 0, table: int = 1, now: float | None = None) -> Row:
    """What the table has of a shop in the minute that began `age` minutes before this one."""
    return Row(Slot(table, 60, minute(age, now), msgspec.json.encode([shop]).decode()), "count", "events/0", n)


def minute(age: int, now: float | None = None) -> int:
    """When that minute began, Unix seconds. Rows that belong together have one `now`."""
    return int(time.time() if now is None else now) // 60 * 60 - 60 * age


def catalogue(fakes: Fakes) -> Any:
    """The list of metrics as the API has it, for the tables of the fakes."""

    @web.middleware
    async def answer(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        if request.path != "/api/v1/analytics":
            return await handler(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        admin = bool(token) and fakes.tokens.verify(token, time.time()).actor.role is Role.ADMIN
        data = [
            {
                "name": metric.name,
                "title": metric.title,
                "group_by": metric.group_by,
                "measures": [{"name": each.name, "kind": each.kind} for each in metric.all_measures],
                "windows": [{"name": kept.window.name, "keep_s": kept.keep} for kept in metric.windows],
            }
            for metric in metrics()
            if metric.public or admin
        ]
        return web.json_response({"success": True, "data": data})

    return answer


@pytest.fixture
async def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    monkeypatch.setattr(watchers, "EVERY_S", 0.05)
    fakes = Fakes()
    store = fakes.stores.watching
    store.serving = {metric.name: Table(at, metric) for at, metric in enumerate(metrics(), start=1)}
    now = time.time()
    store.found = [
        row(20 + 10 * at + (7 * age * (at + 2)) % 13, shop, age, now=now)
        for at, shop in enumerate(SHOPS)
        for age in range(60)
    ]
    store.found.append(row(5, "hidden", table=2))
    return fakes


async def served(fakes: Fakes, port: int = 0) -> TestServer:
    app = create(SETTINGS, fakes.open)
    app.middlewares.insert(0, catalogue(fakes))
    server = TestServer(app, port=port)
    await server.start_server()
    return server


@pytest.fixture
async def server(fakes: Fakes) -> AsyncIterator[TestServer]:
    server = await served(fakes)
    yield server
    await server.close()


@pytest.fixture
async def page() -> AsyncIterator[cdp.Page]:
    async with cdp.opened() as page:
        yield page


async def visit(page: cdp.Page, server: TestServer, width: int = 1000, height: int = 760) -> None:
    await page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
    )
    await page.call("Page.navigate", url=str(server.make_url("/live")))
    await page.until("document.getElementById('state')?.dataset.state === 'live'")


TABLE = "[...document.querySelectorAll('#rows tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"


async def test_rows_and_chart_move(page: cdp.Page, server: TestServer, fakes: Fakes) -> None:
    await visit(page, server)
    found = await page.until(f"({TABLE}).length && {TABLE}")
    assert {cells[1]: cells[2] for cells in found[:3]} == {"Seoul": "20", "Busan": "30", "Jeju": "40"}
    before = await page.evaluate("document.querySelector('#chart canvas').toDataURL()")
    fakes.stores.watching.channel.put_nowait(Changes([row(1234, "Seoul")]))
    await page.until(f"({TABLE})[0].join() && ({TABLE})[0][1] === 'Seoul' && ({TABLE})[0][2] === '1,234'")
    await page.until(f"document.querySelector('#chart canvas').toDataURL() !== {json.dumps(before)}")
    assert page.complaints == []


async def test_nothing_comes_from_elsewhere(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server)
    assert len(page.requested) > 5
    assert {url for url in page.requested if not url.startswith(str(server.make_url("/")))} <= {"about:blank"}
    assert [url for url in page.requested if "token" in url.lower()] == []


async def test_text_of_strangers_stays_text(page: cdp.Page, server: TestServer, fakes: Fakes) -> None:
    fakes.stores.watching.found.append(row(99_999, HOSTILE))
    await visit(page, server)
    fakes.stores.watching.channel.put_nowait(Changes([row(100_000, HOSTILE)]))
    await page.until(f"({TABLE})[0][2] === '100,000'")
    assert (await page.evaluate(f"({TABLE})[0][1]")) == HOSTILE
    assert HOSTILE in await page.evaluate("document.getElementById('legend').textContent")
    assert HOSTILE in await page.evaluate("document.getElementById('title').textContent")
    assert await page.evaluate("document.querySelectorAll('main img, main script, form img').length") == 0
    assert await page.evaluate("document.title") == "Yeoul: live tables"
    assert page.complaints == []
    # And if it were put in as markup, the policy of the page would not run it.
    await page.evaluate(f"document.querySelector('main').innerHTML = {json.dumps(HOSTILE)}")
    await page.until("document.querySelector('main img').complete")
    assert await page.evaluate("document.title") == "Yeoul: live tables"


async def test_every_group_and_every_percentile_is_its_own(page: cdp.Page, server: TestServer, fakes: Fakes) -> None:
    store, now = fakes.stores.watching, time.time()
    places = [Slot(1, 60, minute(age, now), group) for age in range(3) for group in ("[2026]", '["2026"]')]
    sketch = sketches.percentiles(np.array([*range(1, 995), *[10_000.0] * 6]))
    store.found = [Row(slot, "count", "events/0", 1000) for slot in places]
    store.found += [Row(slot, "size", "events/0", 1000, sketch=sketch) for slot in places]
    await visit(page, server)
    assert [cells[1] for cells in await page.until(f"({TABLE}).length && {TABLE}")] == ["2026"] * 6
    legend = "[...document.querySelectorAll('#legend li')].map((line) => line.textContent)"
    assert await page.until(f"({legend}).length && {legend}") == ["2026", "2026"]
    chart = "document.querySelector('#chart canvas').toDataURL()"
    drawn = [await page.evaluate(chart)]
    for choice in ("size.p99", "size.p99.9"):
        await page.evaluate(f"measure.value = '{choice}'; measure.dispatchEvent(new Event('change'))")
        assert await page.evaluate("measure.value") == choice
        await page.until(f"{json.dumps(drawn)}.every((before) => before !== {chart})")
        drawn.append(await page.evaluate(chart))
    assert page.complaints == []


async def test_a_disconnect_is_said_and_mended(page: cdp.Page, fakes: Fakes) -> None:
    # Not a port of the system's choice, which it may give to somebody else meanwhile.
    port = free_port()
    server = await served(fakes, port)
    await visit(page, server)
    await server.close()
    assert "disconnected" in await page.until(
        "document.getElementById('state').dataset.state === 'down' && document.getElementById('state').textContent"
    )
    again = Fakes()
    again.stores.watching.serving = fakes.stores.watching.serving
    again.stores.watching.found = [row(777, "Seoul")]
    server = await served(again, port)
    try:
        await page.until(f"({TABLE}).length === 1 && ({TABLE})[0][2] === '777'")
        assert await page.evaluate("document.getElementById('state').dataset.state") == "live"
    finally:
        await server.close()


async def test_a_token_opens_what_is_not_public_and_stays_in_the_tab(
    page: cdp.Page, server: TestServer, fakes: Fakes
) -> None:
    await visit(page, server)
    names = "[...document.getElementById('metric').options].map((option) => option.value)"
    assert await page.evaluate(names) == ["orders"]
    token = fakes.tokens.issue(ADMIN, Role.ADMIN, time.time())
    await page.evaluate(
        f"document.getElementById('token').value = {json.dumps(token)};"
        " document.getElementById('picker').requestSubmit()"
    )
    await page.until(f"({names}).includes('secret')")
    await page.evaluate("metric.value = 'secret'; metric.dispatchEvent(new Event('change'))")
    await page.until(f"({TABLE}).some((cells) => cells[1] === 'hidden')")
    assert await page.evaluate("sessionStorage.getItem('token')") == token
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0
    assert token not in await page.evaluate("location.href + document.documentElement.outerHTML")
    assert [url for url in page.requested if token in url] == []
    await page.evaluate("document.getElementById('forget').click()")
    await page.until(f"({names}).join() === 'orders'")
    assert await page.evaluate("sessionStorage.getItem('token')") is None


async def test_a_phone_in_the_dark(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server, width=360, height=740)
    await page.until(f"({TABLE}).length")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    assert await page.evaluate("document.querySelector('#chart canvas').getBoundingClientRect().right") <= 360
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(f"[{colour}, document.querySelector('#chart canvas').toDataURL()]")
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    await page.until(f"{colour} !== {json.dumps(light[0])}")
    await page.until(f"document.querySelector('#chart canvas').toDataURL() !== {json.dumps(light[1])}")
    assert await page.evaluate("document.querySelectorAll('#chart .uplot').length") == 1
    assert page.complaints == []
