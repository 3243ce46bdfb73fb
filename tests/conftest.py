"""What every test may ask for: one real stack for the run, and settings with a database and topics of their own."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import hypothesis
import pytest
import pytest_asyncio
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient

import config
from config import Settings
from embedded import state
from embedded.stack import Stack
from tests import defects, documented

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Of tests that run side by side none takes the port that another has chosen and does not listen on yet, nor one
    # that an `up` of theirs may choose.
    state.PORTS = range(10_000, 20_000)[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]


@pytest.fixture(scope="session", autouse=True)
def every_answer_is_documented() -> Generator[None]:
    """Whatever a test asks of the API, its answer has to be one that the documents know (tests/documented.py)."""
    ask = aiohttp.ClientSession._request

    async def asked(session: aiohttp.ClientSession, *arguments: Any, **options: Any) -> aiohttp.ClientResponse:
        answer = await ask(session, *arguments, **options)
        # What is not of a known length is a stream, and whether it is read to its end is for the test to say: `whole`.
        body = await answer.read() if answer.content_length is not None else None
        documented.check(answer.method, answer.url.raw_path, answer.status, answer.headers, body)
        return answer

    read = aiohttp.ClientResponse.read

    async def whole(answer: aiohttp.ClientResponse) -> bytes:
        body = await read(answer)
        if answer.content_length is None:
            documented.check(answer.method, answer.url.raw_path, answer.status, answer.headers, body)
        return body

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "_request", asked)
        patch.setattr(aiohttp.ClientResponse, "read", whole)
        yield


@pytest.fixture(scope="session")
def process_environ() -> dict[str, str]:
    """This process's environment without our own variables: a developer's settings must not change a test."""
    return {name: value for name, value in config.process_environ().items() if not name.startswith("YEOUL_")}


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Where the broker's files are kept between runs."""
    environ = config.process_environ()
    return config.load({name: environ[name] for name in ("YEOUL_CACHE_DIR",) if name in environ}).cache_dir.expanduser()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(cache_dir: Path, process_environ: dict[str, str]) -> AsyncIterator[Stack]:
    """Kafka, PostgreSQL and Valkey for the whole run. A test that stops a part starts it again."""
    # Not in pytest's folder: each run of pytest shuts that for other users, and PostgreSQL runs as one when we are
    # root.
    with tempfile.TemporaryDirectory(prefix="yeoul-tests-") as folder:
        Path(folder).chmod(0o711)
        async with Stack(Path(folder) / "state", cache_dir, process_environ) as running:
            yield running
            # Nobody needs its data any more.
            await running.kill("kafka")


# Valkey has 64 databases; 0 is left to tests of the servers themselves. Each is emptied before its next use.
_redis_databases = itertools.cycle(range(1, 64))


@contextlib.asynccontextmanager
async def fresh_settings(stack: Stack, name: str) -> AsyncIterator[Settings]:
    """Settings with a new empty database, a topic prefix of their own, and an emptied numbered Redis database.

    `name` shows in the names of both, for whoever reads a log. Its topics are deleted afterwards: a broker that keeps
    those of all tests takes a quarter of a minute to start again.
    """
    own = f"{re.sub('[^a-z0-9]+', '_', name.lower())[:24].strip('_')}_{secrets.token_hex(4)}"
    url = stack.settings_environ["YEOUL_POSTGRES_URL"]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{own}"')
    finally:
        await connection.close()
    redis_url = re.sub(r"(?<=[/=])0$", str(next(_redis_databases)), stack.settings_environ["YEOUL_REDIS_URL"])
    async with redis.asyncio.from_url(redis_url) as client:
        await client.flushdb()
    environ = stack.settings_environ | {
        "YEOUL_POSTGRES_URL": re.sub(r"/yeoul\?", f"/{own}?", url),
        "YEOUL_REDIS_URL": redis_url,
        "YEOUL_TOPIC_PREFIX": own.replace("_", "-"),
        "YEOUL_WEB_PORT": "0",
    }
    settings = config.load(environ)
    yield settings
    logs = (stack.state.folder / "kafka" / "data").glob(f"{settings.topic_prefix}.*")
    if topics := {log.name.rpartition("-")[0] for log in logs if not log.name.endswith("-delete")}:
        client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
        try:
            await client.start()
            await client.delete_topics(list(topics))
        finally:
            await client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def settings(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Settings]:
    """Settings of a test module: nobody else's data is in reach, and there is none at first. Not migrated."""
    async with fresh_settings(stack, Path(request.node.name).stem) as fresh:
        yield fresh


@pytest_asyncio.fixture(loop_scope="session")
async def own_settings(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Settings]:
    """As `settings`, for one test alone."""
    async with fresh_settings(stack, request.node.name) as fresh:
        yield fresh


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No test passes that had a mistake in our code only logged.

    What a test logged is sent to the process that prints it, which takes no text that is no UTF-8.
    """
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    found = [
        line for name, text in report.sections if name == f"Captured log {report.when}" for line in defects.in_log(text)
    ]
    if report.passed and found:
        report.outcome = "failed"
        report.longrepr = "a mistake in our code was logged:\n" + "\n".join(found[:20])
    return report


LONGEST = ("flows", "cli", "embedded", "delivery", "commands", "contracts", "browser", "stores", "bench")


def pytest_configure() -> None:
    """So many examples of each property; how long one takes is no test. In CI they are the same ones each time."""
    for size, examples in (("quick", 40), ("full", 500)):
        hypothesis.settings.register_profile(size, hypothesis.settings(), max_examples=examples, deadline=None)
    hypothesis.settings.load_profile("full" if _is_full() else "quick")


def _is_full() -> bool:
    return config.process_environ().get("YEOUL_TEST_FULL") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests marked `full` out unless they are asked for: they take long, not something that is missing.

    The rooms whose modules take long come first: what comes last is to fill the time until the last of these is done.
    """
    items.sort(key=lambda item: LONGEST.index(room) if (room := item.path.parent.name) in LONGEST else len(LONGEST))
    if not _is_full():
        chosen = [item for item in items if item.get_closest_marker("full") is None]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
