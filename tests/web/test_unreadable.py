"""What is wrong below the application: bodies that break off, and requests that are hardly HTTP."""

import asyncio
import gzip
import json
import logging
import time
import tracemalloc
import zlib

import pytest
from prometheus_client import REGISTRY

from domain.access import Role
from tests import defects
from tests.web.conftest import OWNER, asking
from tests.web.fakes import Fakes
from web import middlewares
from web.child import _callers_fault


def counted(name: str, **labels: str) -> float:
    """What a metric of this process stands at."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a process of the front (web/child.py) would log as an error."""
    logged = [it for it in caplog.records if it.levelno >= logging.ERROR and not defects.is_left(it)]
    return [it.getMessage() for it in logged if not _callers_fault(it)]


def upload(fakes: Fakes, header: bytes, body: bytes) -> bytes:
    """A `POST /resources` with one header more, of the connection's only request."""
    token = fakes.tokens.issue(OWNER, Role.USER, time.time()).encode()
    return (
        b"POST /api/v1/resources HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n%b\r\n\r\n%b" % (token, len(body), header, body)
    )


async def raw(port: int, request: bytes, *, after_head: bool = False) -> bytes:
    """All that is answered, until the other side ends the connection. `after_head`: the body waits to be asked for."""
    if after_head:
        head, end, rest = request.partition(b"\r\n\r\n")
        reader, writer = await asking(port, head + b"\r\nExpect: 100-continue" + end)
        await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 10)
    else:
        reader, writer = await asking(port, request[:100])
        rest = request[100:]
    writer.write(rest)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_packed_body_is_not_unpacked_further_than_its_limit(port: int, fakes: Fakes) -> None:
    packed = gzip.compress(b" " * 100_000_000)  # 100 KB
    tracemalloc.start()
    try:
        head = await raw(port, upload(fakes, b"Content-Encoding: gzip", packed))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert head[9:13] == b"413 "
    assert peak < 20_000_000


@pytest.mark.parametrize("encoding", ["br", "zstd", "foo", "gzip, gzip", "compress"])
async def test_an_encoding_that_is_not_known(port: int, fakes: Fakes, encoding: str) -> None:
    head, _, body = (await raw(port, upload(fakes, f"Content-Encoding: {encoding}".encode(), b"{}"))).partition(
        b"\r\n\r\n"
    )
    assert (head[9:12], json.loads(body)["error"]["code"]) == (b"415", "UNSUPPORTED_ENCODING")
    assert b"Accept-Encoding: gzip, deflate" in head


# Without the time of the pack: what a test is called is the same in each process that runs tests.
GZIPPED = gzip.compress(b" " * 9_000 + b"{}", mtime=0)
DEFLATED = zlib.compress(b" " * 9_000 + b"{}")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"Content-Encoding: gzip", b"no gzip at all"),
        (b"Content-Encoding: gzip", GZIPPED[:20] + b"x" * 20),
        (b"Content-Encoding: deflate", b"\x78 no deflate"),
        (b"Content-Encoding: deflate", DEFLATED[:-7]),
    ],
)
@pytest.mark.parametrize("pause", [False, True])
async def test_a_body_that_can_not_be_unpacked(
    port: int, fakes: Fakes, caplog: pytest.LogCaptureFixture, header: bytes, body: bytes, pause: bool
) -> None:
    request = upload(fakes, header, body).replace(b"Connection: close\r\n", b"")
    answer = await raw(port, request, after_head=pause)
    assert answer[9:12] == b"400"
    (detail,) = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["details"]
    assert detail["field"] == "Content-Encoding"
    assert errors_in(caplog) == []


async def test_a_chunk_that_is_none_ends_a_request_that_waits_for_it(
    port: int, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    request = upload(fakes, b"Transfer-Encoding: chunked", b"zz\r\n").replace(b"Content-Length: 4\r\n", b"")
    answer = await raw(port, request, after_head=True)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "MALFORMED_BODY"
    assert errors_in(caplog) == []


@pytest.mark.parametrize("abort", [False, True])
async def test_a_client_that_hangs_up_in_mid_upload_is_no_error_of_ours(
    port: int, fakes: Fakes, caplog: pytest.LogCaptureFixture, abort: bool
) -> None:
    def count(status: str) -> float:
        return counted("yeoul_http_request_seconds_count", method="POST", route="/api/v1/resources", status=status)

    before, errors = count("4xx"), counted("yeoul_http_refusals_total", code="INTERNAL_ERROR")
    token = fakes.tokens.issue(OWNER, Role.USER, time.time())
    head = (
        f"POST /api/v1/resources HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n"
    )
    reader, writer = await asking(port, head.encode())
    await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 10)  # the request is being handled
    writer.write(b"x" * 50_000)
    await writer.drain()
    if abort:
        writer.transport.abort()
    else:
        writer.close()
    async with asyncio.timeout(10):
        while count("4xx") == before:
            await asyncio.sleep(0.01)
    assert counted("yeoul_http_refusals_total", code="INTERNAL_ERROR") == errors
    assert errors_in(caplog) == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01marker\r\n\r\n",
        b"marker\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: marker\r\n\r\n",
        b"POST /api/v1/resources HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_hardly_http_is_refused(port: int, request_bytes: bytes) -> None:
    await refused_below(port, request_bytes, 400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /marker" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer marker" + b"a" * 20_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nmarker" + b"a" * 20_000 + b": 1\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\n" + b"marker: 1\r\n" * 200 + b"\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"MARKER /livez HTTP/1.1\r\nHost: x\r\n\r\n", 501, "METHOD_UNKNOWN"),
        (b"GETX /livez HTTP/1.1\r\nHost: x\r\n\r\n", 501, "METHOD_UNKNOWN"),
        (b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n", 501, "METHOD_UNKNOWN"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: marker\r\n\r\n", 417, "EXPECTATION_FAILED"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nExpect: marker\r\n\r\n", 417, "EXPECTATION_FAILED"),
        (b"PUT /nothing HTTP/1.1\r\nHost: x\r\nExpect: 100-continue, marker\r\n\r\n", 417, "EXPECTATION_FAILED"),
    ],
)  # fmt: skip
async def test_what_aiohttp_refuses_by_itself_has_the_status_that_the_standard_asks_for(
    port: int, request_bytes: bytes, status: int, code: str
) -> None:
    await refused_below(port, request_bytes, status, code)


async def refused_below(port: int, request_bytes: bytes, status: int, code: str) -> None:
    """Checks that the application below says no in the envelope, ends the connection, and shows nothing again."""
    head, _, body = (await raw(port, request_bytes)).partition(b"\r\n\r\n")
    assert head[9:13] == b"%d " % status, head
    for shown in (b"python", b"aiohttp", b"Traceback", b"marker"):
        assert shown.lower() not in (head + body).lower()
    answer = json.loads(body)
    assert (answer["success"], answer["error"]["code"]) == (False, code)
    assert b"X-Request-Id: " in head


async def test_an_answer_that_fails_below_the_application_is_in_the_envelope_too(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("marker")

    monkeypatch.setattr(middlewares, "_seconds", broken)
    head, _, body = (await raw(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    assert (head[9:12], json.loads(body)["error"]["code"]) == (b"500", "INTERNAL_ERROR")
    assert b"marker" not in body
