"""What is in a command's way is one sentence with a way out, never a traceback."""

from __future__ import annotations

import asyncio
import importlib
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import config
import topics
from cli import failures
from cli.status import without_password
from config import Settings
from embedded.state import free_port
from stores import StoresUnfit
from stores.dead_letters import Letter, park
from tests.cli.harness import ROOT, Finished, yeoul


@pytest.fixture
def nowhere(process_environ: dict[str, str], settings: Settings) -> dict[str, str]:
    """Everything is set, and nobody listens at any of the addresses."""
    away = f"127.0.0.1:{free_port()}"
    return process_environ | {
        **settings.environ(),
        "YEOUL_KAFKA_URL": away,
        "YEOUL_POSTGRES_URL": f"postgresql://someone:marker@{away}/d",
        "YEOUL_REDIS_URL": f"redis://:marker@{away}/0",
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("migrate",), "PostgreSQL"),
        (("topics",), "Kafka"),
        (("token", "a@example.com"), "PostgreSQL"),
        (("tail",), "Kafka"),
        (("dead-letters", "list"), "PostgreSQL"),
        (("dead-letters", "replay", "1"), "PostgreSQL"),
    ],
)
def test_a_server_that_is_away_is_a_sentence(
    arguments: tuple[str, ...], named: str, tmp_path: Path, nowhere: dict[str, str]
) -> None:
    done = yeoul(tmp_path / "none", nowhere, *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith(f"yeoul: {named} is away")
    # `up` would not start it: the address is the user's.
    assert "that address was set here" in done.err
    assert "./yeoul up" not in done.err
    assert "marker" not in done.err


@pytest.mark.parametrize("command", ["tail", "topics"])
def test_a_kafka_that_is_frozen_is_given_up(command: str, tmp_path: Path, nowhere: dict[str, str]) -> None:
    with socket.socket() as frozen:
        # As with a stopped process, the system takes the connection and nobody answers.
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        environ = nowhere | {"YEOUL_KAFKA_URL": f"127.0.0.1:{frozen.getsockname()[1]}"}
        begun = time.monotonic()
        done = yeoul(tmp_path / "none", environ, command)
    assert time.monotonic() - begun < 60
    assert (done.code, done.err.count("\n"), "no answer within 10 s" in done.err) == (1, 1, True), done.err


async def test_a_topic_of_another_shape_is_a_sentence(
    tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url.split(","))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"misshapen.{topics.INGEST.name}", 2, 1)])
    finally:
        await admin.close()
    environ = process_environ | settings.environ() | {"YEOUL_TOPIC_PREFIX": "misshapen"}
    done = await asyncio.to_thread(yeoul, tmp_path / "none", environ, "topics")
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert "has 2 partitions" in done.err
    assert "Growing a topic" in done.err


def test_a_refused_login_and_missing_tables_are_sentences(
    tmp_path: Path, process_environ: dict[str, str], own_settings: Settings
) -> None:
    environ = process_environ | own_settings.environ()
    done = yeoul(tmp_path / "none", environ, "dead-letters", "list")
    assert (done.code, "./yeoul migrate" in done.err, done.err.count("\n")) == (1, True, 1), done.err
    environ["YEOUL_POSTGRES_URL"] = re.sub(r"/[^/?]+\?", "/no_such_database?", own_settings.postgres_url)
    done = yeoul(tmp_path / "none", environ, "migrate")
    assert (done.code, "no_such_database" in done.err, done.err.count("\n")) == (1, True, 1), done.err


async def test_a_group_has_a_short_name_and_an_unknown_one_is_told(
    tmp_path: Path, process_environ: dict[str, str], own_settings: Settings
) -> None:
    environ = process_environ | own_settings.environ()

    async def run(*arguments: str) -> Finished:
        return await asyncio.to_thread(yeoul, tmp_path / "none", environ, "dead-letters", *arguments)

    assert (await asyncio.to_thread(yeoul, tmp_path / "none", environ, "migrate")).code == 0
    full = f"{own_settings.topic_prefix}.analytics"
    connection = await asyncpg.connect(own_settings.postgres_url)
    try:
        for group in (full, "retired"):
            await park(connection, [letter(group)])
    finally:
        await connection.close()
    for given, found in (("analytics", full), (full, full), ("retired", "retired")):
        listed = await run("list", "--group", given)
        assert (listed.code, listed.out.count("\n"), f" {found} " in listed.out) == (0, 1, True), listed.err
    unknown = await run("list", "--group", "analytic")
    assert (unknown.code, full in unknown.err, "retired" in unknown.err, unknown.err.count("\n")) == (1, True, True, 1)
    assert "no partition is stopped" in (await run("stopped")).out

    # Without a terminal nobody can be asked.
    refused = await run("drop", "--all", "--group", "analytics")
    assert (refused.code, "--yes" in refused.err, "1 of" in refused.err) == (1, True, True)
    dropped = await run("drop", "--all", "--group", "analytics", "--yes")
    assert (dropped.code, dropped.out) == (0, "1 dropped\n")
    assert (await run("list")).out.count("\n") == 1


def letter(group: str) -> Letter:
    return Letter(
        group=group, topic="t", topic_id=UUID(int=1), partition=0, offset=1, key=None, value=b"x", headers=(),
        produced_at=None, code="undecodable", error="", handler="h", attempts=1,
    )  # fmt: skip


# Of this program alone: what getrusage knows began with the process that started it.
_MEASURED = """
import re, sys
from pathlib import Path
from cli.main import main
code = main(sys.argv[1:])
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a program took at most is read from /proc, as Linux has it")
async def test_dead_letters_of_any_size_are_listed_and_settled_in_little_memory(
    tmp_path: Path, process_environ: dict[str, str], own_settings: Settings
) -> None:
    environ = process_environ | own_settings.environ() | {"YEOUL_STATE_DIR": str(tmp_path / "none")}
    assert (await asyncio.to_thread(yeoul, tmp_path / "none", environ, "migrate")).code == 0
    count, size = 60, 5 << 20
    connection = await asyncpg.connect(own_settings.postgres_url)
    try:
        await connection.execute(
            f"""INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code,
                    error, handler, attempts)
                SELECT 'g', 't', gen_random_uuid(), 0, n, convert_to(repeat('x', {size}), 'UTF8'), '[]', 'c', '', 'h', 1
                FROM generate_series(1, {count}) AS n"""
        )
    finally:
        await connection.close()
    for arguments, said in (
        (("list",), f" {size} bytes "),
        (("replay", "--all"), f"{count} sent again"),
        (("list", "--state", "requested"), f" {size} bytes "),
    ):
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", _MEASURED, "dead-letters", *arguments], cwd=ROOT, env=environ,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert int(done.stderr) < 200, f"{arguments} took {done.stderr} MB"


def test_every_expected_failure_is_one_that_can_happen() -> None:
    for name in failures.EXPECTED:
        module, _, kind = name.rpartition(".")
        found = getattr(importlib.import_module(module), kind)
        assert issubclass(found, Exception)
        assert f"{found.__module__}.{found.__qualname__}" == name


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    assert failures.sentence(ZeroDivisionError("x")) is None
    unreadable = StoresUnfit("syntax error")
    unreadable.__cause__ = asyncpg.PostgresSyntaxError("syntax error")
    assert failures.sentence(unreadable) is None


@pytest.mark.parametrize("command", ["worker", "web", "migrate", "topics"])
def test_elsewhere_everything_that_is_missing_is_named_at_once(
    command: str, tmp_path: Path, process_environ: dict[str, str]
) -> None:
    done = yeoul(tmp_path / "none", process_environ | {"YEOUL_ENVIRONMENT": "production"}, command)
    assert done.code == 1
    required = config.environment("production")["required"]
    assert [name for name in required if name not in done.err] == []
    assert "./yeoul up" not in done.err


@pytest.mark.parametrize("arguments", [("worker",), ("web",), ("token", "a@example.com")])
def test_servers_without_keys_are_not_enough(
    arguments: tuple[str, ...], tmp_path: Path, process_environ: dict[str, str], settings: Settings
) -> None:
    named = {name: value for name, value in settings.environ().items() if name.endswith("_URL")}
    done = yeoul(tmp_path / "none", process_environ | named, *arguments)
    assert (done.code, "YEOUL_COMMAND_KEY" in done.err, "Traceback" in done.err) == (1, True, False)


@pytest.mark.parametrize("command", ["worker", "web"])
def test_a_port_of_metrics_that_is_taken_is_said(command: str, tmp_path: Path, nowhere: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        done = yeoul(tmp_path / "none", nowhere | {"YEOUL_METRICS_PORT": str(port), "YEOUL_WEB_PORT": "0"}, command)
    assert done.code == 1
    said = [line for line in done.err.splitlines() if f"127.0.0.1:{port}" in line]
    assert len(said) == 1, done.err
    assert "address already in use" in said[0]
    assert "YEOUL_METRICS_PORT" in said[0]
    assert "Traceback" not in done.err


def test_an_image_without_bench_still_helps(tmp_path: Path, process_environ: dict[str, str]) -> None:
    for room in ("cli", "config", "embedded", "domain", "telemetry"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=tmp_path, env=process_environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    helped = run("help")
    assert (helped.returncode, "bench" in helped.stdout) == (0, True), helped.stderr
    measured = run("bench")
    assert (measured.returncode, measured.stderr.count("\n")) == (1, 1), measured.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("postgresql://yeoul:se%2Fcret@127.0.0.1:5432/yeoul", "postgresql://yeoul:***@127.0.0.1:5432/yeoul"),
        ("postgresql://yeoul:secret@/yeoul?host=/run/x", "postgresql://yeoul:***@/yeoul?host=/run/x"),
        ("postgresql:///yeoul?user=a&password=secret&host=/x", "postgresql:///yeoul?user=a&password=***&host=/x"),
        ("redis://:secret@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("unix://:secret@/run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
