"""A server is away for a while, under load: what the callers see, and what is true afterwards."""

import asyncio
import statistics
import time
from collections import Counter
from typing import Any, Self

import aiohttp
import pytest

from embedded.stack import Stack
from tests.flows.clients import LIMIT, comes_again
from tests.flows.harness import Process, System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLERS = 16
PAUSE_S = 0.03
"""Between a caller's writes, unless all of the machine is for them: several hundred writes a second are a load."""


class Load:
    """Callers that write one after the other, and what they were answered."""

    def __init__(self, url: str, token: str, *, full: bool, prefer: str | None = None, again: bool = True) -> None:
        """`prefer`: the `Prefer` header of each write. `again`: who is told so because of Kafka comes again."""
        self.answers: list[tuple[float, int, float, dict[str, str], Any]] = []
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} | ({} if prefer is None else {"Prefer": prefer})
        self._pause = 0.0 if full else PAUSE_S
        self._ways = (comes_again,) if again else ()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _call(self) -> None:
        async with aiohttp.ClientSession(headers=self._headers, timeout=LIMIT, middlewares=self._ways) as session:
            while not self._stop.is_set():
                started = time.monotonic()
                async with session.post(f"{self._url}/resources", json={"kind": "note", "title": "outage"}) as response:
                    body = await response.json()
                    took = time.monotonic() - started
                    self.answers.append((started, response.status, took, dict(response.headers), body))
                # As a client does that was told to come again.
                await asyncio.sleep(0.1 if response.status == 503 else self._pause)

    def statuses(self, since: float = 0.0, until: float = float("inf")) -> Counter[int]:
        """How many answers of each status, by when they were asked for."""
        return Counter(status for started, status, *_ in self.answers if since <= started < until)


async def _started(installation: System) -> tuple[Process, Process, str, str]:
    worker, front = installation.worker(), installation.front()
    await asyncio.gather(worker.start(), front.start())
    return worker, front, installation.url_of(front), await installation.token()


async def _settled(installation: System, load: Load) -> None:
    """Every write that was answered 201 or 202 is there exactly once; nothing else is."""
    accepted = load.statuses()[201] + load.statuses()[202]
    pending = {body["data"]["id"]: at for at, status, _took, _headers, body in load.answers if status == 202}

    async def undone() -> dict[str, float]:
        rows = await installation.stores.database.fetch(
            "SELECT operation FROM operations WHERE operation = ANY($1::uuid[])", list(pending)
        )
        return {id: at for id, at in pending.items() if id not in {str(row["operation"]) for row in rows}}

    try:
        await installation.until_done(accepted, 60)
    except AssertionError as error:
        error.add_note(f"asked for at, and never done: {await undone()} of {load.statuses()}; {installation.logs()}")
        raise
    await installation.check_created(accepted)
    assert not await undone()


async def test_postgresql_away_under_load(installation: System, stack: Stack, full: bool) -> None:
    away = 20.0 if full else 8.0
    worker, _front, url, token = await _started(installation)
    async with Load(url, token, full=full, prefer="wait=1") as load:
        await until(lambda: _answered(load, 201, 100), 30, "writes are answered")
        await stack.stop("postgres")
        gone = time.monotonic()
        await asyncio.sleep(away)  # the length of the outage
        assert not await worker._is_ready()
        begun = time.monotonic()
        await stack.start("postgres")
        await until(lambda: _answered(load, 201, 100, since=begun), 60, "writes are answered again")
    during = load.statuses(gone, begun - 2)  # whoever asked later may have been answered after it
    assert set(during) == {202}, during
    assert during[202] >= 2 * CALLERS, "each caller goes on writing"
    await _went_on(worker)
    await _settled(installation, load)


async def test_changes_that_were_sent_while_postgresql_was_away_are_done_in_the_order_sent(
    installation: System, stack: Stack, full: bool
) -> None:
    away = 20.0 if full else 0.0
    _worker, _front, url, token = await _started(installation)
    titles = [f"title {number}" for number in range(60)]
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=0"}
    async with aiohttp.ClientSession(headers=headers, middlewares=(comes_again,)) as session:
        at_once = {"Prefer": "wait=5"}
        async with session.post(
            f"{url}/resources", json={"kind": "note", "title": titles[0]}, headers=at_once
        ) as response:
            assert response.status == 201
            id = (await response.json())["data"]["id"]
        await stack.stop("postgres")
        begun = time.monotonic()
        for title in titles[1:]:
            async with session.put(f"{url}/resources/{id}", json={"kind": "note", "title": title}) as response:
                assert response.status == 202
                last = (await response.json())["data"]["id"]
        await asyncio.sleep(max(0.0, begun + away - time.monotonic()))  # the length of the outage
        await stack.start("postgres")
        await installation.until_done(len(titles), 60)
        # Who has not been answered yet may still read what was before; who asks for the operation has been.
        async with session.get(f"{url}/operations/{last}") as response:
            assert (await response.json())["data"]["status"] == "succeeded"
        async with session.get(f"{url}/resources/{id}") as response:
            found = (await response.json())["data"]
    assert (found["version"], found["title"]) == (len(titles), titles[-1])
    await installation.until_published()
    applied, _repeats = await installation.events()
    told = [(event["aggregateversion"], event["data"]["title"]) for event in applied]
    assert told == list(enumerate(titles, 1))


async def test_kafka_away_under_load(installation: System, stack: Stack, full: bool) -> None:
    away, known = (20.0, 2.0) if full else (7.0, 4.0)  # from `known` on each process of the front knows
    worker, _front, url, token = await _started(installation)
    async with Load(url, token, full=full, again=False) as load:
        await until(lambda: _answered(load, 201, 100), 30, "writes are answered")
        stopped = time.monotonic()
        await stack.stop("kafka")
        gone = time.monotonic()
        await asyncio.sleep(away)  # the length of the outage
        begun = time.monotonic()
        await stack.start("kafka")
        await until(lambda: _answered(load, 201, 100, since=begun), 90, "writes are answered again")
    late = [(status, took, headers) for at, status, took, headers, _ in load.answers if gone + known < at < begun]
    assert {status for status, _took, _headers in late} == {503}
    assert all("Retry-After" in headers for _status, _took, headers in late)
    times = [took for _status, took, _headers in late]
    assert statistics.median(times) < 1.0, "503 comes at once"
    # A machine that does other things, too, may stand still for longer than that.
    assert max(times) < (1.0 if full else 5.0)
    assert set(load.statuses(stopped)) <= {201, 202, 503}
    await _went_on(worker)
    await _settled(installation, load)


async def test_redis_away_under_load(installation: System, stack: Stack, full: bool) -> None:
    away = 20.0 if full else 6.0
    worker, _front, url, token = await _started(installation)
    async with Load(url, token, full=full) as load:
        await until(lambda: _answered(load, 201, 100), 30, "writes are answered")
        await stack.stop("valkey")
        gone = time.monotonic()
        await asyncio.sleep(away)  # the length of the outage
        begun = time.monotonic()
        reads = await _read(url, token, load.answers[-1][4]["data"]["id"])
        await stack.start("valkey")
        await until(lambda: _answered(load, 201, 100, since=begun), 60, "writes are answered")
    during = load.statuses(gone, begun - 1)
    assert set(during) == {201}, f"answers are found by looking the operation up: {during}"
    assert reads == 200
    await _went_on(worker)
    await _settled(installation, load)


async def _went_on(worker: Process) -> None:
    """It is the same worker, and none of its groups has crashed and begun anew."""
    assert worker.status is None
    assert await worker.metric("yeoul_group_restarts_total") == 0


async def _answered(load: Load, status: int, count: int, since: float = 0.0) -> bool:
    return load.statuses(since)[status] >= count


async def _read(url: str, token: str, id: str) -> int:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{url}/resources/{id}") as response,
    ):
        return response.status
