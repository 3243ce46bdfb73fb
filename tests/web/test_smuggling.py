"""Requests whose end two servers could see in different places, and headers that try to be more than one line.

Each is sent over a socket with a second request behind it. Either the first is refused and the connection ends, or it
is read in the one way that the standard allows; what hides in a body never runs as a request.
"""

import asyncio
import contextlib
import logging
import re

import pytest

from telemetry.logs import Json
from tests.web.conftest import asking

LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED, LAST = b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"
HIDDEN = b"GET /api/v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


async def sent(port: int, request: bytes) -> list[int]:
    """The statuses of all that is answered until the other side ends the connection, as it soon does where no more is
    asked; who waited for the rest of a body would not."""
    reader, writer = await asking(port, request)
    answer = b""
    async with asyncio.timeout(8):  # before a head or a body would be too slow
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65_536):
                answer += part
    writer.close()
    assert b"smuggled" not in answer  # as it is in what the parser says of a line that it can't read
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def behind(head: bytes, body: bytes) -> bytes:
    return LOGIN + head + b"\r\n" + body


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", LAST + HIDDEN, id="CL.TE"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", LAST + HIDDEN, id="TE.CL"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 60\r\n", b"{}" + HIDDEN, id="two lengths"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}" + HIDDEN, id="one length twice"),
        pytest.param(b"Content-Length: 2, 2\r\n", b"{}" + HIDDEN, id="a list of lengths"),
        pytest.param(b"Content-Length: +2\r\n", b"{}" + HIDDEN, id="a length with a sign"),
        pytest.param(b"Content-Length: 0x2\r\n", b"{}" + HIDDEN, id="a hexadecimal length"),
        pytest.param(b"Content-Length: 2 2\r\n", b"{}" + HIDDEN, id="a length with a space"),
        pytest.param(b"Content-Length: 99999999999999999999999\r\n", b"{}" + HIDDEN, id="a length beyond 64 bits"),
        pytest.param(b"Content-Length : 2\r\n", b"{}" + HIDDEN, id="a space before the colon"),
        pytest.param(b"Content-Length\t: 2\r\n", b"{}" + HIDDEN, id="a tab before the colon"),
        pytest.param(b" Content-Length: 2\r\n", b"{}" + HIDDEN, id="a space before the name"),
        pytest.param(b"X: a\r\n Content-Length: 2\r\n", b"{}" + HIDDEN, id="a folded line"),
        pytest.param(b"Content-Length: 2\r\n\tTransfer-Encoding: chunked\r\n", b"{}" + HIDDEN, id="a folded length"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", LAST + HIDDEN, id="TE.TE"),
        pytest.param(b"Transfer-Encoding: identity, chunked, identity\r\n", LAST + HIDDEN, id="chunked not last"),
        pytest.param(b"Transfer-Encoding: xchunked\r\n", LAST + HIDDEN, id="another coding"),
        pytest.param(b"Transfer-Encoding: chunked, chunked\r\n", LAST + HIDDEN, id="chunked twice"),
        pytest.param(b"Transfer-Encoding: \x0bchunked\r\n", LAST + HIDDEN, id="a vertical tab"),
        pytest.param(b"Transfer-Encoding : chunked\r\n", LAST + HIDDEN, id="TE with a space"),
        pytest.param(CHUNKED, b"2\n{}\n0\n\n" + HIDDEN, id="chunks with bare LF"),
        pytest.param(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="a negative chunk"),
        pytest.param(CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="a prefixed chunk"),
        pytest.param(CHUNKED, b"2 \r\n{}\r\n0\r\n\r\n" + HIDDEN, id="a chunk and a space"),
        pytest.param(CHUNKED, b"ffffffffffffffff2\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="a huge chunk"),
        pytest.param(CHUNKED, b"2;a\nb\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="LF in an extension"),
        pytest.param(CHUNKED, b"2\r\n{}XX0\r\n\r\n" + HIDDEN, id="a chunk that goes on"),
        pytest.param(b"X: a\nContent-Length: 2\r\n", b"{}" + HIDDEN, id="a bare LF between headers"),
        pytest.param(b"X: a\rContent-Length: 2\r\n", b"{}" + HIDDEN, id="a bare CR between headers"),
        pytest.param(b"X: a\x00b\r\nContent-Length: 2\r\n", b"{}" + HIDDEN, id="a NUL in a header"),
        pytest.param(b"X\x00Y: a\r\nContent-Length: 2\r\n", b"{}" + HIDDEN, id="a NUL in a name"),
        pytest.param(b"Content-Length: 2\r\nHost: y\r\n", b"{}" + HIDDEN, id="two hosts"),
        pytest.param(b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n", LAST + HIDDEN, id="a folded TE"),
        pytest.param(b"Transfer-Encoding: chunked\x00\r\n", LAST + HIDDEN, id="NUL behind chunked"),
        pytest.param(b"Transfer-Encoding: chunked;q=1\r\n", LAST + HIDDEN, id="a parameter of chunked"),
        pytest.param(b'Transfer-Encoding: "chunked"\r\n', LAST + HIDDEN, id="chunked in quotes"),
        pytest.param(b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 4\r\n", LAST + HIDDEN, id="two codings"),
        pytest.param(b"Content-Length: \xd9\xa2\r\n", b"{}" + HIDDEN, id="a length in Arabic digits"),
        pytest.param(b"Content-Length: 2_0\r\n", b"{}" + HIDDEN, id="a length with an underscore"),
        pytest.param(b"Content-Length: -0\r\n", HIDDEN, id="less than nothing"),
        pytest.param(CHUNKED, b"1_0\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="a chunk with an underscore"),
        pytest.param(CHUNKED, b"+2\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="a chunk with a sign"),
        pytest.param(CHUNKED, b"\r\n2\r\n{}\r\n0\r\n\r\n" + HIDDEN, id="an empty line before a chunk"),
        pytest.param(CHUNKED, b"2\r{}\r\n0\r\n\r\n" + HIDDEN, id="CR behind the size"),
    ],
)  # fmt: skip
async def test_what_two_servers_could_read_in_two_ways_is_read_in_none(port: int, head: bytes, body: bytes) -> None:
    statuses = await sent(port, behind(head, body))
    assert len(statuses) <= 1, statuses  # nothing, or one refusal: what stands behind it is not looked at
    assert set(statuses) <= {400, 431, 501}, statuses


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN, id="a request as a body"),
        pytest.param(
            CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN), id="a request as a chunk"
        ),
        pytest.param(
            CHUNKED, b'2;a=b;c="d"\r\n{}\r\n0;e\r\n\r\n', id="extensions that are well-formed"
        ),
        pytest.param(
            CHUNKED, b"2\r\n{}\r\n0\r\nContent-Length: 60\r\nX: y\r\n\r\n", id="trailers"
        ),
        pytest.param(b"Transfer-Encoding: CHUNKED\r\n", b"2\r\n{}\r\n0\r\n\r\n", id="capitals"),
        pytest.param(b"Content-Length: 002\r\n", b"{}", id="zeros"),
    ],
)  # fmt: skip
async def test_what_the_standard_allows_is_one_request(port: int, head: bytes, body: bytes) -> None:
    assert await sent(port, behind(head, body)) == [400]  # by the handler: an empty login


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /api/v1/auth/logout HTTP/1.1", 401),
        (b"POST /api/v1/nothing HTTP/1.1", 404),
        (b"PUT /livez HTTP/1.1", 405),
        (b"GET /livez HTTP/1.1", 200),
        (b"HEAD /livez HTTP/1.1", 200),
        (b"DELETE /api/v1/users/me HTTP/1.1", 401),
        (b"OPTIONS /api/v1/resources HTTP/1.1", 405),
    ],
)
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
        (CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        (b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
        (b"Connection: keep-alive, Content-Length\r\nContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    ],
    ids=["length", "chunks", "expect", "hop by hop"],
)
async def test_a_body_that_nobody_reads_is_no_request(
    port: int, line: bytes, status: int, head: bytes, body: bytes
) -> None:
    statuses = await sent(port, line + b"\r\nHost: x\r\n" + head + b"\r\n" + body)
    assert [one for one in statuses if one != 100] == [status]


@pytest.mark.parametrize(
    "head",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n",
        b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: %d\r\n" % len(HIDDEN),
    ],
    ids=["h2c", "websocket", "a body"],
)
async def test_nobody_is_talked_into_another_protocol(port: int, head: bytes) -> None:
    body = HIDDEN if b"Length" in head else b""
    statuses = await sent(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + body)
    assert len(statuses) == 1
    assert set(statuses) <= {200, 400}


async def test_requests_in_a_row_are_answered_in_their_order(port: int) -> None:
    more = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /no HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await sent(port, behind(b"Content-Length: 2\r\n", b"{}") + more) == [400, 200, 404]


@pytest.mark.parametrize(
    "line",
    [
        b"GET /livez",
        b"GET /livez HTTP/0.9",
        b"GET /livez HTTP/2.0",
        b"GET /liv ez HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET\t/livez\tHTTP/1.1",
        b"GET livez HTTP/1.1",
    ],
)
async def test_request_lines_that_are_none(port: int, line: bytes) -> None:
    statuses = await sent(port, line + b"\r\nHost: x\r\n\r\n")
    assert statuses in ([], [400], [404], [501]), statuses


@pytest.mark.parametrize("line", [b"GET  /livez HTTP/1.1", b"GET http://evil.example/livez HTTP/1.1"])
async def test_request_lines_that_the_standard_lets_pass_are_one_request(port: int, line: bytes) -> None:
    assert await sent(port, line + b"\r\nHost: x\r\n\r\n") == [200]


@pytest.mark.parametrize(
    "value", ["a\nSet-Cookie: x=y", "a\rSet-Cookie: x=y", "a%0d%0aSet-Cookie:x", "a Set-Cookie", "ä", "a" * 65]
)
async def test_a_request_id_brings_no_header_along(port: int, value: str, caplog: pytest.LogCaptureFixture) -> None:
    request = f"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: {value}\r\n\r\n"
    with caplog.at_level(logging.INFO):
        reader, writer = await asking(port, request.encode())
        head = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")[0]
    writer.close()
    assert b"Set-Cookie" not in head
    assert all(re.fullmatch("[0-9a-f]{32}", found.decode()) for found in re.findall(rb"X-Request-Id: (.*?)\r", head))


@pytest.mark.parametrize("path", ["/a%0d%0aSet-Cookie:%20x=y", "/api/v1/resources/%0d%0aX:y", "/api/v2/%0aX:y"])
async def test_a_path_brings_no_header_and_no_line_of_the_log_along(
    port: int, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(Json("web"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        reader, writer = await asking(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        async with asyncio.timeout(10):
            shown = ""
            while "404" not in shown:
                await asyncio.sleep(0.02)
                shown += capsys.readouterr().err
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"Set-Cookie" not in answer
    assert b"\r\nX:" not in answer
    assert all(line.startswith("{") and line.endswith("}") for line in shown.splitlines()), shown
    assert "Set-Cookie" not in shown
