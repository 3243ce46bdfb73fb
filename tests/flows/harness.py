"""Workers and fronts as processes of their own, to be killed, frozen and stopped; and what must be true afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

import config
import stores
from config import Settings
from config.shields import SHIELDS
from domain.access import SYSTEM, Actor, Role
from embedded.state import free_port
from stores import migrations
from streams import admin, identity
from streams.publish import Answer, BrokerAway, Commands, Order, Pending
from tests import defects
from web.accounts import token_for

ROOT = Path(__file__).resolve().parent.parent.parent
WRITES = ("accounts", "resources", "sessions")
"""Groups without those that follow accounts: what they would do is not done, and tokens stay good."""
OWNER = Actor(UUID("00000000-0000-7000-8000-000000000001"), Role.USER)
FULL_SIZE = os.environ.get("YEOUL_TEST_FULL") == "1"
"""True when the sizes, and the times, are the ones the guarantees are stated for. Else the machine does other things,
too, and a time is a bound on hanging."""
SENT_S = 30.0
"""Bounds the wait for a broker that takes commands."""
_given: set[int] = set()


def own_port() -> int:
    """A port that nobody here was given before: whom it was given to may not listen yet, or not at the moment."""
    port = free_port(_given)
    _given.add(port)
    return port


async def until(condition: Callable[[], Awaitable[Any]], within_s: float, what: str) -> Any:
    """The first truthy value of `condition`; `within_s` bounds a hang, it is no measure of speed."""
    deadline = time.monotonic() + within_s
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(0.05)


def unlimited(settings: Settings, of: str = "") -> Settings:
    """The same settings with limits that no test comes near to. `of`: only those whose names end so."""
    names = [variable.name for variable in SHIELDS if variable.name.startswith("YEOUL_LIMIT_")]
    return config.load(settings.environ() | {name: "1000000/60" for name in names if name.endswith(of)})


class Process:
    """A command of ours as its own process, with its log in a file."""

    def __init__(self, settings: Settings, arguments: Sequence[str], log: Path, **more: str) -> None:
        self._arguments = [sys.executable, *arguments]
        self.port = own_port()
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **settings.environ(),
            "YEOUL_METRICS_PORT": str(self.port),
            **more,
        }
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    def more(self, **more: str) -> None:
        """More variables for its next start."""
        self._environ |= more

    async def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it says that it is ready."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments, env=self._environ, cwd=ROOT, stdout=log, stderr=log
            )
        if ready:
            await self.ready()

    async def ready(self, within_s: float = 60.0) -> None:
        """Wait until /readyz says 200."""
        await until(self._is_ready, within_s, f"{self._arguments} ready; see {self.log}")

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (
            f"it ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}"
        )
        with socket.socket() as probe:  # while nobody listens, to ask that is cheap
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"http://127.0.0.1:{self.port}/readyz") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.returncode if self._process is not None else None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def ended(self, within_s: float = 30.0) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), within_s)

    async def stop(self) -> None:
        """SIGTERM, and wait until it has ended in order."""
        self.signal(signal.SIGTERM)
        assert await self.ended(30) == 0

    async def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of what its /metrics have by that name with these labels."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/metrics") as response,
        ):
            text = await response.text()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith(name + "{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in wanted))


class System:
    """One installation of its own: database, topics, and the processes that a test starts."""

    def __init__(self, settings: Settings, folder: Path, opened: stores.Stores, commands: Commands) -> None:
        self.settings = settings
        self.stores = opened
        self.commands = commands
        self._folder = folder
        self._processes: list[Process] = []
        self._urls: dict[Process, str] = {}
        self.url = ""
        """Where the front of `serve` is."""

    def worker(self, *groups: str, slots: str = "state", point: str = "") -> Process:
        """A worker. `slots`: workers that share a folder never share a slot. `point`: see faulty_worker.py."""
        program = ["-m", "tests.flows.faulty_worker", point] if point else ["-m", "cli", "worker"]
        number = len(self._processes)
        process = Process(
            self.settings, [*program, *groups], self._folder / f"worker-{number}.log",
            YEOUL_STATE_DIR=str(self._folder / slots), YEOUL_LOG_LEVEL="info",
        )  # fmt: skip
        self._processes.append(process)
        return process

    def front(self, processes: int = 2) -> Process:
        """A front of as many processes; `url_of` says where."""
        port = own_port()
        process = Process(
            self.settings, ["-m", "cli", "web"], self._folder / f"front-{port}.log",
            YEOUL_STATE_DIR=str(self._folder / "state"), YEOUL_WEB_PORT=str(port),
            YEOUL_WEB_PROCESSES=str(processes),
        )  # fmt: skip
        self._urls[process] = f"http://127.0.0.1:{port}/api/v1"
        self._processes.append(process)
        return process

    def url_of(self, front: Process) -> str:
        """Where a front is."""
        return self._urls[front]

    async def serve(self, *groups: str, processes: int = 2) -> str:
        """Start a worker with these groups (all if none is named) and a front of as many processes; where it is."""
        worker, front = self.worker(*groups), self.front(processes)
        await asyncio.gather(worker.start(), front.start())
        self.url = self.url_of(front)
        return self.url

    async def token(self, email: str = "owner@example.com", role: Role = Role.USER) -> str:
        """An access token of an account, made if need be; a worker must run."""
        return await asyncio.to_thread(token_for, self.settings, email, role.value)

    def logs(self) -> str:
        """What its processes warned of."""
        lines = [line for process in self._processes for line in process.log.read_text().splitlines()]
        return "\n".join(line for line in lines if '"level":"info"' not in line)[-5000:]

    async def close(self) -> None:
        """End every process. None of them may have met a mistake in our code, also if it got over it."""
        for process in self._processes:
            await process.kill()
        found = [line for process in self._processes for line in defects.in_log(process.log.read_text())]
        assert not found, "\n".join(found[:20])

    # -- commands ----------------------------------------------------------------------------------------------------

    def create(self, number: int) -> Order:
        """A command that creates the number-th resource."""
        operation = identity.operation_id(OWNER.id, "POST", "/resources", str(number))
        data = msgspec.json.encode({"kind": "note", "title": f"number {number}"})
        return self.order("create_resource", operation, identity.aggregate_id(operation), data)

    @staticmethod
    def order(kind: str, operation: UUID, aggregate: UUID, data: bytes) -> Order:
        """A command for resources."""
        return Order(
            noun="resources", type=kind, aggregate_id=aggregate, operation=operation, actor=OWNER, data=data,
            fingerprint=kind,
        )  # fmt: skip

    async def send(self, orders: Sequence[Order], at_once: int = 500) -> None:
        """Send commands without waiting for what comes of them."""
        for start in range(0, len(orders), at_once):
            await asyncio.gather(*(self.submit(order) for order in orders[start : start + at_once]))

    async def submit(self, order: Order, *, wait: float = 0) -> Answer | Pending:
        """Send a command and wait for so many seconds for its answer."""
        # A broker that stands still for a second counts as away. Then it was not sent, and is once more.
        deadline = time.monotonic() + SENT_S
        while True:
            try:
                return await self.commands.submit(order, wait=wait)
            except BrokerAway:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def register(self, number: int, *, keyed: bool = True) -> Order:
        """A command that makes an account with the number-th address; each call is another operation.

        `keyed`: the account's key is kept first, as a front does.
        """
        operation = identity.new_operation()
        if keyed:
            await self.stores.accounts.put_key(identity.aggregate_id(operation), b"wrapped")
        command = {
            "email_sealed": "sealed", "name_sealed": "sealed", "email_index": f"{number:064x}",
            "password_sealed": "sealed",
        }  # fmt: skip
        return Order(
            noun="accounts", type="create_account", aggregate_id=identity.aggregate_id(operation), operation=operation,
            actor=SYSTEM, data=msgspec.json.encode(command), fingerprint="register",
        )  # fmt: skip

    async def done(self, noun: str = "resources") -> int:
        """Operations that have a result."""
        row = await self.stores.database.fetchrow("SELECT count(*) FROM operations WHERE noun = $1", noun)
        return int(row["count"])

    async def until_done(self, count: int, within_s: float, noun: str = "resources") -> None:
        """Wait until as many operations have a result."""

        async def enough() -> bool:
            try:
                return await self.done(noun) >= count
            except stores.StoresAway:
                return False

        await until(enough, within_s, f"{count} operations done")

    async def until_published(self, within_s: float = 30.0) -> None:
        """Wait until everything that was handled is published."""

        async def published() -> bool:
            rows = await self.stores.database.fetch(
                "SELECT 1 FROM progress WHERE published_offset IS NOT NULL AND published_offset < next_offset"
            )
            return not rows

        await until(published, within_s, "published offsets caught up")

    # -- what must be true -------------------------------------------------------------------------------------------

    async def events(self, topic: str = "events.resources") -> tuple[list[dict[str, Any]], int]:
        """What a reader that follows `sequence` applies, in the order of each partition; and the repeats it drops."""
        name = f"{self.settings.topic_prefix}.{topic}"
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_url, enable_auto_commit=False)
        await consumer.start()
        applied: list[dict[str, Any]] = []
        repeats = 0
        try:
            partitions = [TopicPartition(name, number) for number in range(4)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            ends = await consumer.end_offsets(partitions)
            highest = dict.fromkeys(partitions, "")
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                    for record in records:
                        event = msgspec.json.decode(record.value)
                        if event["sequence"] <= highest[partition]:
                            repeats += 1
                            continue
                        highest[partition] = event["sequence"]
                        applied.append(event)
        finally:
            await consumer.stop()
        return applied, repeats

    async def events_of(self, subject: str | UUID, topic: str) -> list[dict[str, Any]]:
        """As `events`: those of one aggregate."""
        return [event for event in (await self.events(topic))[0] if event["subject"] == str(subject)]

    async def check_created(self, count: int) -> int:
        """Everything exactly once: resources, results of operations, events; returns the repeats dropped."""
        await self.until_published()
        rows = await self.stores.database.fetch("SELECT id, version FROM resources")
        assert len(rows) == count
        assert {row["version"] for row in rows} == {1}
        results = await self.stores.database.fetch(
            "SELECT outcome, count(*) FROM operations WHERE noun = 'resources' GROUP BY outcome"
        )
        assert {row["outcome"]: row["count"] for row in results} == {"succeeded": count}
        journal = await self.stores.database.fetchrow(
            "SELECT count(*), count(DISTINCT aggregate_id) AS ids FROM journal WHERE noun = 'resources'"
        )
        assert (journal["count"], journal["ids"]) == (count, count)
        applied, repeats = await self.events()
        assert len(applied) == count
        assert {event["subject"] for event in applied} == {str(row["id"]) for row in rows}
        letters = await self.stores.database.fetchrow("SELECT count(*) FROM dead_letters")
        assert letters["count"] == 0
        return repeats


@contextlib.asynccontextmanager
async def serving(settings: Settings, folder: Path, *groups: str) -> AsyncIterator[System]:
    """A `system` that serves, for tests that share it and have accounts of their own.

    All of them ask from one address, whose limits are lifted; those of an account count.
    """
    async with system(unlimited(settings, "_ADDRESS"), folder) as running:
        await running.serve(*groups)
        yield running


@contextlib.asynccontextmanager
async def system(settings: Settings, folder: Path) -> AsyncIterator[System]:
    """An installation with tables and topics, without processes yet."""
    await migrations.apply(settings.postgres_url)
    await admin.ensure_topics(settings)
    async with stores.open(settings) as opened, Commands.open(settings, opened) as commands:
        running = System(settings, folder, opened, commands)
        try:
            yield running
        finally:
            await running.close()
