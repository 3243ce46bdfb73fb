"""What an operator is shown, and what not: states that pass are told once, by us."""

import asyncio
import importlib.util
import json
import logging
import re
import signal
import sys
from pathlib import Path

import pytest

from config import Settings
from telemetry.logs import EXPECTED, Unexpected, configure

ROOT = Path(__file__).resolve().parents[2]


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, None, None)


def test_every_expected_line_is_one_that_the_libraries_write() -> None:
    text = ""
    for package in ("aiokafka", "mode", "asyncpg"):
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.origin is not None
        text += "".join(path.read_text(encoding="utf-8") for path in Path(found.origin).parent.rglob("*.py"))
    assert [line for line in EXPECTED if not re.search(f"[\"']{re.escape(line)}", text)] == []


@pytest.mark.parametrize(
    ("name", "message", "shown"),
    [
        ("aiokafka", "Unable connect to node with id %s: %s", False),
        ("aiokafka.consumer.group_coordinator", "Heartbeat failed for group %s because it is rebalancing", False),
        ("aiokafka.consumer.group_coordinator", "Heartbeat failed: %r", True),
        ("aiokafka", "Topic %s is not authorized for this client", True),
        ("aiokafka.producer.sender", "Got error produce response on topic-partition %s, retrying. Error: %s", False),
        ("asyncpg.pool", "Failed to restore the pool connection floor; retrying", False),
        ("asyncpg.pool", "Something else", True),
        ("yeoul.streams", "Unable connect to anything", True),
        ("asyncio", "Task exception was never retrieved\nfuture: <GroupCoordinator._do_commit_offsets()>", False),
        ("asyncio", "Task exception was never retrieved\nfuture: <Ours.work()>", True),
    ],
)
def test_only_states_that_pass_are_left_out(name: str, message: str, shown: bool) -> None:
    assert Unexpected().filter(record(name, message)) is shown


LEVELS = ("debug", "info", "warning", "error", "critical")


@pytest.mark.parametrize("least", LEVELS)
def test_there_are_five_levels_of_lines_each_an_object(
    least: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure(Settings(log_level=least, log_format="json"), "test")
    for level in LEVELS:
        logging.getLogger("yeoul.test").log(
            getattr(logging, level.upper()), "one\nof %s", level, extra={"fields": {"request": "r"}}
        )
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == list(LEVELS[LEVELS.index(least) :])
    assert {(line["process"], line["logger"], line["request"]) for line in lines} == {("test", "yeoul.test", "r")}
    assert [line["message"] for line in lines] == [f"one\nof {line['level']}" for line in lines]
    logging.captureWarnings(False)


def test_who_debugs_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    for level, filters in (("info", 1), ("debug", 0)):
        monkeypatch.setattr(root, "handlers", [])
        monkeypatch.setattr(root, "level", root.level)
        configure(Settings(log_level=level), "test")
        assert len(root.handlers[0].filters) == filters
    logging.captureWarnings(False)


async def test_a_worker_without_kafka_says_so_once(tmp_path: Path, process_environ: dict[str, str]) -> None:
    tries = 0
    enough = asyncio.Event()

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()
        # A process tries from several places; each of them several times by then.
        if tries > 40:
            enough.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as nobody:
        address = f"127.0.0.1:{nobody.sockets[0].getsockname()[1]}"
        environ = process_environ | {
            "YEOUL_STATE_DIR": str(tmp_path),
            "YEOUL_KAFKA_URL": address,
            "YEOUL_POSTGRES_URL": "postgresql://u@127.0.0.1:1/d",
            "YEOUL_REDIS_URL": "redis://127.0.0.1:1/0",
            "YEOUL_LOG_FORMAT": "text",
        }
        key = "a2V5IG9mIHRoaXJ0eSB0d28gYnl0ZXMgZm9yIHRlc3Q="
        environ |= {f"YEOUL_{noun}_KEY": key for noun in ("COMMAND", "INDEX", "CURSOR", "SEALING")}
        environ["YEOUL_TOKEN_KEYS"] = f"one:{key}"
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "worker", cwd=ROOT, env=environ, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            await enough.wait()
            worker.send_signal(signal.SIGTERM)
            _, printed = await worker.communicate()
    lines = printed.decode().splitlines()
    assert [line for line in lines if " aiokafka" in line or "[^" in line] == []
    away = [re.sub(r"^\S+ ", "", line) for line in lines if "away" in line]
    assert away
    assert len(away) == len(set(away)), printed.decode()
    assert worker.returncode == 0
