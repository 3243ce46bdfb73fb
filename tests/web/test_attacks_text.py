"""Text that wants to be more than text: a header, a line of a log, a file, markup. Sent as no client library would."""

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from telemetry.logs import Json, People
from tests.web.conftest import Bearer, Client, bearing
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.parts import ACCESS
from web.unreadable import Runner

V1 = "/api/v1"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


@pytest.fixture
async def running(fakes: Fakes) -> AsyncIterator[tuple[int, web.Application]]:
    app = create(SETTINGS, fakes.open)
    runner = Runner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], app
    await runner.cleanup()


async def raw(port: int, line: bytes, *headers: bytes) -> bytes:
    """All that is answered to a request whose bytes nobody mends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\r\n".join([line, b"Host: x", b"Connection: close", *headers, b"", b""]))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


EVIL = (b"a\rSet-Cookie: x=y", b"a\nSet-Cookie: x=y", b"a\x00b", b"a\x1b[31mb", b"a%0d%0aSet-Cookie: x=y",
        b"\xe5\x98\x8a\xe5\x98\x8dX:y",
        "a\u2028b\u0085c".encode())  # fmt: skip


@pytest.mark.parametrize("shape", [Json("web"), People()], ids=["json", "people"])
@pytest.mark.parametrize(
    "name", [b"X-Request-Id", b"User-Agent", b"Idempotency-Key", b"traceparent", b"Accept-Language", b"Origin",
             b"Prefer", b"If-None-Match", b"X-Forwarded-For", b"Referer", b"Authorization"],
)  # fmt: skip
async def test_a_header_brings_no_header_and_no_line_along(
    running: tuple[int, web.Application],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: bytes,
    shape: logging.Formatter,
) -> None:
    port, app = running
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(shape)
    handler.addFilter(logging.Filter("yeoul"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    caplog.set_level(logging.INFO, "yeoul.web")
    for value in EVIL:
        answer = await raw(port, b"GET /api/v1/resources HTTP/1.1", name + b": " + value)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head[:5] == b"HTTP/"
        assert head[9:12] in (b"200", b"400", b"401")
        assert not [line for line in head.lower().split(b"\r\n") if line.startswith((b"set-cookie", b"x:"))]
        assert not set(head) & {0, 0x1B}
        assert b"\x1b" not in body
        app[ACCESS].flush()
    lines = stream.getvalue().splitlines()
    begin = r"\{" if isinstance(shape, Json) else r"\d\d:\d\d:\d\d \w+ +web: GET "
    assert len(lines) == 3  # what is no text of a header is no request either
    assert all(re.match(begin, line) for line in lines), lines
    assert not [line for line in lines if "Set-Cookie" in line or "\x1b[31m" in line]


@pytest.mark.parametrize(
    "text", ["one\ntwo", "one\r\ntwo", "\x1b[2Jone", "one\x00", "one\u2028two\u0085three", "one\x9b31m"]
)
def test_a_line_for_people_is_one_line_whatever_it_tells(text: str) -> None:
    record = logging.LogRecord("yeoul.web", logging.INFO, "", 0, "told: %s", (text,), None)
    record.__dict__["fields"] = {"device": text}
    shown = People().format(record)
    assert len(shown.splitlines()) == 1
    assert not [sign for sign in shown if not sign.isprintable()]
    assert shown.count("one") == 2
    shown = Json("web").format(record)
    assert not [sign for sign in shown if ord(sign) < 32]


def test_a_traceback_for_people_has_its_lines() -> None:
    try:
        raise ValueError("why\x1b[2J")
    except ValueError as error:
        record = logging.LogRecord(
            "yeoul", logging.ERROR, "", 0, "failed", None, (ValueError, error, error.__traceback__)
        )
    shown = People().format(record)
    assert "\nTraceback" in shown
    assert "\x1b[2J" not in shown


PATHS = (
    "../{}", "..%2f{}", "%2e%2e/{}", "%2e%2e%2f{}", "..%5c{}", "..\\{}", "%252e%252e%252f{}", "..%c0%af{}", "....//{}",
    "./{}", "/{}", "//{}", "%2f{}", "file:///{}", "index.html/../{}", "index.html%00{}", "index.html;{}", "{}%00.js",
    "C:%5c{}", "~/{}", "..%ef%bc%8f{}", "page.js/../../{}", "index.html%20", "INDEX.HTML", "index.html.", "%s%n{}",
)  # fmt: skip
GUARDED = ("/api/v1/kinds/", "/api/v1/users/", "/api/v1/dead-letters/", "/api/v2/kinds/", "/api/v2/users/")


@pytest.mark.parametrize("bent", PATHS)
async def test_a_path_leads_to_nothing_else(running: tuple[int, web.Application], bent: str) -> None:
    port, _ = running
    for folder in ("/live/", "/docs/", "/problems/", "/api/v1/analytics/", "/api/v1/resources/", *GUARDED):
        for leaf in ("app.py", "etc/passwd", "api/v1/users", "VENDORED.md"):
            answer = await raw(port, f"GET {folder}{bent.format(leaf) if '{}' in bent else bent} HTTP/1.1".encode())
            status = int(answer[9:12])
            assert status in (400, 401, 404, 405), (folder, bent, leaf, answer[:200])
            assert b"root:" not in answer
            assert b"import " not in answer


async def test_a_guarded_address_is_guarded_however_it_is_spelled(running: tuple[int, web.Application]) -> None:
    port, _ = running
    for spelled in (
        "/api/v1/users", "/api/v1//users", "//api/v1/users", "/api/v1/users/", "/api/v1/./users", "/api/v1/x/../users",
        "/API/v1/users", "/api/v1/%75sers", "/api/v1/users%2f", "/api/v1/users;x=1", "/api/v1/users?x",
        "/api/v1/users#x", "/live/../api/v1/users", "/livez/../api/v1/users", "/api/v1/users%00", "/api/v1/users%20",
        "/api/v3/users",
        "http://x/api/v1/users", "/api%2fv1%2fusers",
    ):  # fmt: skip
        status = int((await raw(port, f"GET {spelled} HTTP/1.1".encode()))[9:12])
        assert status in (400, 401, 404), (spelled, status)


async def test_text_of_people_is_never_served_as_a_page(client: Client, bearer: Bearer) -> None:
    note = {"kind": "note", "title": SCRIPT, "body": SCRIPT, "tags": [SCRIPT], "attributes": {SCRIPT: SCRIPT},
            "visibility": "public"}  # fmt: skip
    made = (await (await client.post(f"{V1}/resources", json=note, headers=bearer())).json())["data"]
    new = {"email": "han@example.org", "password": "rapids of a river", "name": SCRIPT}
    agent = {"User-Agent": SCRIPT}
    tokens = (await (await client.post(f"{V1}/auth/register", json=new, headers=agent)).json())["data"]
    mine = bearing(tokens) | agent
    shown = 0
    for prefix in (V1, "/api/v2"):
        for method, path, headers, body in (
            ("GET", f"/resources/{made['id']}", bearer(), None), ("GET", "/resources", {}, None),
            ("GET", "/users/me", mine, None), ("GET", "/sessions", mine, None), ("GET", "/users/me/export", mine, None),
            ("GET", f"/resources?{SCRIPT}=1", {}, None), ("GET", f"/resources?filter[kind]={SCRIPT}", {}, None),
            ("GET", f"/{SCRIPT}", {}, None), ("POST", "/resources", bearer(), {SCRIPT: SCRIPT}),
            ("PATCH", f"/resources/{made['id']}", bearer(), {"attributes": {SCRIPT: SCRIPT}}),
        ):  # fmt: skip
            answer = await client.request(method, prefix + path, json=body, headers=headers | {"Accept": "text/html"})
            assert answer.content_type in ("application/json", "application/problem+json"), path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert SCRIPT not in " ".join(answer.headers.values())
            shown += "<script>" in await answer.text()
    assert shown > 10  # it was there to be shown, and only as JSON


@pytest.mark.parametrize(
    "path", ["/live?{}", "/live/{}", "/docs?{}", "/docs/{}", "/problems/{}", "/{}", "/livez?{}", "/readyz?{}"]
)
async def test_a_page_repeats_nothing_of_its_address(client: Client, path: str) -> None:
    answer = await client.get(path.format(SCRIPT), allow_redirects=False)
    assert "alert(1)" not in await answer.text()
    assert "alert(1)" not in " ".join(answer.headers.values())
