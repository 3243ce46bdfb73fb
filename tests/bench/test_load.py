import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from bench.load import Plan, measure
from embedded.state import free_port

ANSWER = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(part), part) for part in (b'[{"id":1},{"i', b'd":2}]', b"")
)


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers in two pieces; 404 for paths that end in /missing, hangs up on /gone."""
    paths: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1]
                paths.append(path)
                if path == b"/gone":
                    return
                answer = ANSWER % (b"404 Not Found" if path == b"/missing" else b"200 OK")
                if path == b"/chunks":
                    answer = CHUNKS
                writer.write(answer[:40])
                await writer.drain()
                writer.write(answer[40:])
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1], paths
    listening.close()


def plan(port: int, *paths: str, count: int = 60) -> Plan:
    requests = [("GET", path, "") for path in paths]
    return Plan(port=port, connections=3, requests=requests, headers={}, warmup_s=0.0, seconds=5.0, count=count)


async def test_it_counts_the_expected_answers_and_names_the_others(server: tuple[int, list[bytes]]) -> None:
    outcome = await measure(plan(server[0], "/a", "/b", "/missing"))
    assert outcome.count == 60
    assert outcome.errors["404"] in range(27, 34)
    assert 0 < outcome.p50_ms <= outcome.p99_ms <= outcome.max_ms
    assert outcome.rate == pytest.approx(outcome.count / outcome.duration_s)


async def test_requests_are_sent_round_and_round(server: tuple[int, list[bytes]]) -> None:
    await measure(plan(server[0], "/a", "/b"))
    paths = server[1]
    assert paths[::2].count(b"/a") == len(paths[::2])
    assert len(paths) >= 60


async def test_a_lost_connection_is_counted_and_opened_again(server: tuple[int, list[bytes]]) -> None:
    outcome = await measure(plan(server[0], "/a", "/gone", count=12))
    assert outcome.count == 12
    assert outcome.errors["closed"] >= 9


async def test_answers_in_chunks_are_counted_and_rows_in_two_chunks_are_seen(server: tuple[int, list[bytes]]) -> None:
    outcome = await measure(msgspec.structs.replace(plan(server[0], "/chunks"), items=2))
    assert (outcome.count, outcome.errors) == (60, {})


async def test_an_answer_without_all_of_its_rows_is_none(server: tuple[int, list[bytes]]) -> None:
    outcome = await measure(msgspec.structs.replace(plan(server[0], "/chunks", "/a", count=20), items=2))
    assert outcome.count >= 20
    assert outcome.errors["incomplete"] >= 15


async def test_a_server_that_is_not_there_ends_the_run_with_a_sentence() -> None:
    with pytest.raises(SystemExit, match="refuses connections"):
        await measure(plan(free_port(), "/a"))
