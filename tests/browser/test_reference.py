"""The reference of the API in a real browser: everything is there, can be found, and needs nothing from elsewhere."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestServer

from tests.browser import cdp
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.routes import API


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    server = TestServer(create(SETTINGS, Fakes().open))
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
async def page() -> AsyncIterator[cdp.Page]:
    async with cdp.opened() as page:
        yield page


async def visit(page: cdp.Page, server: TestServer, width: int = 1200, hash_: str = "") -> None:
    await page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    await page.call("Page.navigate", url=str(server.make_url("/docs")) + hash_)
    await page.until("document.querySelectorAll('section.operation').length > 5")


async def test_every_operation_of_both_versions_is_shown(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server)
    choose = "document.getElementById('version')"
    for version in ("v1", "v2"):
        await page.evaluate(f"(v => {{ v.value = '{version}'; v.dispatchEvent(new Event('change')); }})({choose})")
        await page.until(
            "[...document.querySelectorAll('.path')].some((one) => one.textContent === '/api/"
            + version
            + "/resources')"
        )
        shown = await page.evaluate(
            "[...document.querySelectorAll('section.operation h3')].map((one) => one.innerText.replace(/\\s+/g, ' '))"
        )
        assert {f"{method} /api/{version}{path}" for method, path, _, _ in API} <= set(shown)
    assert page.complaints == []
    assert {url.split("/", 3)[2] for url in page.requested if url != "about:blank"} == {f"127.0.0.1:{server.port}"}


async def test_a_search_leaves_what_was_meant(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server)
    await page.evaluate("document.getElementById('search').value = 'stale_version resources'")
    await page.evaluate("document.getElementById('search').dispatchEvent(new Event('input'))")
    left = await page.evaluate(
        "[...document.querySelectorAll('section.operation[id]')].filter((one) => !one.hidden).map((one) => one.id)"
    )
    assert "putResourcesById" in left
    assert "postAuthLogin" not in left


async def test_an_answer_is_opened_down_to_its_members(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server, hash_="#postResources")
    section = "document.getElementById('postResources')"
    await page.until(f"Math.abs({section}.getBoundingClientRect().top) < 60")
    await page.evaluate(
        f"[...{section}.querySelectorAll('details')].find((one) => one.innerText.startsWith('201')).open = true"
    )
    await page.until(f"{section}.innerText.includes('owner_id')")
    text = await page.evaluate(f"{section}.innerText")
    assert "Idempotency-Key" in text
    assert 'curl -sg -X POST "$ORIGIN/api/v1/resources"' in text


async def test_a_phone_shows_it_without_scrolling_sideways(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server, width=390)
    await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = "[...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 391)"
    wide += (
        ".filter((one) => !one.closest('pre')).map((one) => one.tagName + one.className + one.textContent.slice(0, 80))"
    )
    assert await page.evaluate(wide) == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_a_document_that_is_away_is_said(page: cdp.Page, server: TestServer) -> None:
    await visit(page, server)
    await page.call("Network.setBlockedURLs", urls=["*openapi.json*"])
    await page.evaluate("document.getElementById('version').dispatchEvent(new Event('change'))")
    await page.until("document.querySelector('[role=alert]')?.textContent.includes('Reload')")
