"""What can stand in the way of a start, caused for real: each is one clear sentence with the way out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedded import java
from embedded.errors import AlreadyRunning, DiskFull, EmbeddedError, PartFailed, PortBusy
from embedded.processes import remember
from embedded.state import State
from tests.embedded.conftest import Make

ROOT = Path(__file__).resolve().parent.parent.parent
MB = 1024 * 1024
HOLD = """
import asyncio, os, sys
from pathlib import Path
from embedded.stack import Stack

async def main():
    async with Stack(Path(sys.argv[1]), Path(sys.argv[2]), os.environ, sys.argv[3:]) as stack:
        print(*stack.pids.values(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def another_process(
    state_dir: Path, cache: Path, *parts: str, environ: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that runs a stack, and the pids of its parts."""
    command = [sys.executable, "-c", HOLD, str(state_dir), str(cache), *parts]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, [int(word) for word in process.stdout.readline().split()]
        finally:
            process.kill()


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that would stay for ten minutes."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


async def ended(pids: list[int]) -> bool:
    """Whether all of them end within a minute."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 60)
    return not alive


async def test_the_servers_die_with_a_parent_that_is_killed(
    tmp_path: Path, cache_dir: Path, process_environ: dict[str, str], make: Make
) -> None:
    with another_process(tmp_path / "state", cache_dir, "kafka", "postgres", "valkey", environ=process_environ) as (
        parent,
        pids,
    ):
        assert len(pids) == 3
        with pytest.raises(AlreadyRunning, match=str(parent.pid)):
            make("valkey").take()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert await ended(pids)
    # The lock of a dead process is nobody's, and the data is whole.
    async with make("postgres", "valkey") as running:
        assert set(running.pids) == {"postgres", "valkey"}


async def test_processes_left_over_are_ended_by_the_next_start(make: Make, tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.take()
    with sleeper() as orphan, sleeper() as stranger:
        remember(state, "valkey", orphan.pid)
        # A number that was given to another program since: the start differs.
        state.write("processes", state.read("processes") | {"kafka": {"pid": stranger.pid, "started": 1.0}})
        state.release()
        lines: list[str] = []
        async with make("valkey", say=lines.append):
            assert orphan.wait(10) == -signal.SIGTERM
            assert stranger.poll() is None
    assert any("left: valkey" in line for line in lines)


async def test_a_stale_lock_and_cut_files_are_no_obstacle(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "lock").write_text("1")
    (folder / "run.json").write_text('{"ready": tr')
    (folder / "processes.json").write_text("[]")
    (folder / "ports.json").write_text("")
    async with make("valkey") as running:
        assert running.pids


async def test_a_stale_pid_file_of_postgres_is_no_obstacle(make: Make) -> None:
    async with make("postgres") as running:
        await running.kill("postgres")
        stale = running.state.folder / "postgres" / "data" / "postmaster.pid"
        assert stale.exists()
        await running.start("postgres")


async def test_an_interrupted_initdb_is_begun_again(make: Make, tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.take()
    state.release()
    half = state.folder / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with make("postgres") as running:
        assert running.pids
    assert not half.exists()


async def test_a_busy_port_names_the_program_and_the_way_out(make: Make) -> None:
    async with make("valkey"):
        pass
    port = json.loads((make("valkey").state.folder / "ports.json").read_text())["valkey"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PortBusy, match=rf"{port}.*process {os.getpid()}.*ports\.json"):
            async with make("valkey"):
                pass
    async with make("valkey") as running:
        sockets = psutil.Process(running.pids["valkey"]).net_connections("inet")
        assert [one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN] == [port]


async def test_without_a_network_the_first_start_says_what_to_do(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        # Bound and not listening: whoever connects is refused.
        closed.bind(("127.0.0.1", 0))
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        cache = tmp_path / "empty"
        with pytest.raises(EmbeddedError, match=r"could not be downloaded.*network.*YEOUL_KAFKA_URL"):
            async with make("kafka", cache=cache):
                pass
    assert java.cached_jars(cache) == []


async def test_a_file_that_is_not_the_locked_one_is_refused(
    make: Make, tmp_path: Path, cache_dir: Path, stack: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "kafka.lock"
    coordinates = "org.jspecify:jspecify:1.0.0"
    lock.write_text(f"{coordinates} {'0' * 64}\n")
    monkeypatch.setattr(java, "LOCK", lock)
    # A repository on disk holds the true file, so that no network is asked.
    folder = java._folder(tmp_path / "cache") / "parts" / "org" / "jspecify" / "jspecify" / "1.0.0"
    folder.mkdir(parents=True)
    (source,) = cache_dir.glob("kafka-*/jspecify-1.0.0.jar")
    shutil.copy(source, folder / source.name)
    with pytest.raises(EmbeddedError, match=f"{coordinates} is not the one"):
        async with make("kafka", cache=tmp_path / "cache"):
            pass


async def test_a_folder_that_cannot_be_made_is_told(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match=r"cannot be written.*YEOUL_STATE_DIR"):
        make("valkey", state_dir=tmp_path / "file" / "state").take()


async def test_lost_secrets_are_told_from_a_database_that_hangs(make: Make, tmp_path: Path) -> None:
    async with make("postgres"):
        pass
    (tmp_path / "state" / "secrets.json").unlink()
    with pytest.raises(EmbeddedError, match=r"another password.*reset --yes"):
        async with make("postgres"):
            pass


async def test_data_of_another_version_is_told(make: Make, tmp_path: Path) -> None:
    async with make("postgres"):
        pass
    (tmp_path / "state" / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(PartFailed, match=r"another major version.*postgres\.log"):
        async with make("postgres"):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 260 MB, where the system lets us mount one; else on the run's own, which has room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=260m", "yeoul-test", folder], check=False, capture_output=True
    )
    yield folder
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", folder], check=True)


def is_small(folder: Path) -> bool:
    """Whether it stands on the small disk: no other is filled."""
    return shutil.disk_usage(folder).total < 300 * MB


@contextlib.contextmanager
def filled(folder: Path, leave: int) -> Iterator[None]:
    """`leave` bytes are free on the small disk; on another one no file of ours or our children's grows beyond them."""
    if is_small(folder):
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free - leave))
        try:
            yield
        finally:
            ballast.unlink()
    else:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (leave, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_told_before_anything_is_made(make: Make, small_disk: Path) -> None:
    stack = make("postgres", state_dir=small_disk / "state")
    if is_small(small_disk):
        with filled(small_disk, 4 * MB), pytest.raises(DiskFull, match=r"is full.*YEOUL_STATE_DIR"):
            stack.take()
    else:
        with pytest.raises(DiskFull, match=r"is full.*YEOUL_STATE_DIR"):
            stack.state.take(room_bytes=shutil.disk_usage(small_disk).total * 2)


@pytest.mark.parametrize("bound", ["disk", "files"])
async def test_a_disk_that_fills_up_is_told(make: Make, small_disk: Path, tmp_path: Path, bound: str) -> None:
    folder = small_disk if bound == "disk" else tmp_path
    stack = make("postgres", state_dir=folder / "state")
    stack.take()
    try:
        with filled(folder, 8 * MB), pytest.raises(DiskFull, match=r"is full.*YEOUL_STATE_DIR"):
            await stack.start_all()
        await stack.start_all()
        assert stack.pids
    finally:
        await stack.close()
