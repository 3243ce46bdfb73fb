"""The parent and its processes, as an operator meets them. Their dependencies are away, which they must bear."""

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from embedded.state import free_port
from tests.web.fakes import SETTINGS

ROOT = Path(__file__).parents[2]
RUN = """
import json, sys, config
from web import parent
sys.exit(parent.run(config.load(json.loads(sys.stdin.readline()))))
"""


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Polls an outside process; there is nothing else to wait on."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        with socket.socket() as pause:
            pause.settimeout(0.05)
            try:
                pause.bind(("127.0.0.1", 0))
                pause.listen()
                pause.accept()
            except TimeoutError:
                continue
    return found


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def refuses(port: int) -> bool:
    """True when no process listens there any more."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


class Front:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.metrics_port = free_port({self.port})
        nobody = free_port({self.port, self.metrics_port})
        self.settings = msgspec.structs.replace(
            SETTINGS,
            kafka_url=f"127.0.0.1:{nobody}",
            postgres_url=f"postgresql://u:p@127.0.0.1:{nobody}/d",
            redis_url=f"redis://127.0.0.1:{nobody}/0",
            web_port=self.port,
            metrics_port=self.metrics_port,
            state_dir=folder,
        )
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.settings.environ()).encode() + b"\n")
        process.stdin.flush()
        return process

    def children(self) -> list[int]:
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child.pid)
        return found

    def listening(self) -> bool:
        """True when there are two children and one of them answers on the shared port."""
        return len(self.children()) == 2 and get(self.port, "/livez")[0] == 200

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    opened = Front(tmp_path)
    yield opened
    opened.close()


def test_processes_share_a_port_and_add_up_their_metrics(front: Front) -> None:
    until(front.listening)
    for _ in range(20):
        assert get(front.port, "/nothing")[0] == 404
    status, text = get(front.metrics_port, "/metrics")
    line = 'yeoul_http_request_seconds_count{method="GET",route="unmatched",status="4xx"} 20.0'
    assert status == 200
    assert line in text
    assert len(re.findall("^yeoul_web_process_restarts_total ", text, re.MULTILINE)) == 1
    declared = re.findall("^# TYPE ([^ ]+) ", text, re.MULTILINE)
    assert len(declared) == len(set(declared))
    assert get(front.metrics_port, "/livez")[0] == 200
    status, text = get(front.metrics_port, "/readyz")
    assert status == 503
    assert set(json.loads(text)) == {"ready", "kafka", "postgres", "redis"}
    assert get(front.port, "/metrics")[0] == 404
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(60) == 0
    assert list((front.settings.state_dir / "metrics").iterdir()) == []


def test_a_process_that_dies_is_replaced(front: Front) -> None:
    until(front.listening)
    victim = front.children()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(front.children()) == 2 and victim not in front.children())
    # As one leaves it that dies in its first moment: it counted nothing, and takes nothing of what others counted.
    (front.settings.state_dir / "metrics" / f"web-{front.process.pid}" / "counter_1.db").touch()
    until(lambda: "restarts_total 1.0" in get(front.metrics_port, "/metrics")[1])
    front.process.send_signal(signal.SIGINT)
    assert front.process.wait(60) == 0


def test_no_process_outlives_its_parent(front: Front) -> None:
    until(front.listening)
    children = front.children()
    front.process.kill()
    front.process.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in children))


def test_a_taken_port_is_said_and_not_shared(front: Front) -> None:
    until(front.listening)
    second = front.start()
    assert second.stdin is not None
    second.stdin.close()
    assert second.wait(60) == 1


async def test_a_running_request_is_finished_before_the_end(front: Front) -> None:
    await asyncio.to_thread(until, front.listening)
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    writer.write(head + b"Expect: 100-continue\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 10)  # the request is being handled
    writer.write(b"{")
    await writer.drain()
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", front.port)
    idle_writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await idle_reader.readuntil(b"}")
    front.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(until, lambda: refuses(front.port))  # nobody new is let in
    writer.write(b"}")
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Connection: close" in answer
    assert await asyncio.wait_for(idle_reader.read(), 10) == b""  # a connection that does nothing is closed
    writer.close()
    idle_writer.close()
    assert await asyncio.to_thread(front.process.wait, 60) == 0


def test_the_parent_imports_nothing_of_what_serves_requests() -> None:
    """Its memory and its time are for nothing but watching."""
    code = "import sys, cli.main, cli.connection, cli.web, web.parent; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"web.parent", "config"} <= set(loaded.split())
    assert {"web.app", "stores", "streams", "numpy", "redis", "asyncpg"}.isdisjoint(loaded.split())
