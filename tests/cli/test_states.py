"""What runs, what does not, and whose it is: status, down, reset, the doctor."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import doctor, main
from cli.connection import OTHER_PORT
from embedded.errors import PortBusy
from embedded.postgres import socket_folder
from embedded.processes import remember
from embedded.state import State, free_port
from tests.cli.harness import ROOT, yeoul


def test_status_knows_workers_that_up_did_not_start(tmp_path: Path, process_environ: dict[str, str]) -> None:
    state = State(tmp_path / "state")
    state.take()
    state.release()
    hold = (
        "import sys; from pathlib import Path; from streams.slots import Slot;"
        " slot = Slot(Path(sys.argv[2]), 'g'); print(); input()"
    )
    command = [sys.executable, "-c", hold, "worker", str(state.folder / "slots")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        found = json.loads(yeoul(state.folder, process_environ, "status", "--json").out)
        assert found["more_workers"] == [worker.pid]
        assert str(worker.pid) in yeoul(state.folder, process_environ, "status").out
        worker.kill()


def test_the_doctor_looks_for_the_fronts_port_and_for_named_servers(
    tmp_path: Path, process_environ: dict[str, str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environ = process_environ | {
            "YEOUL_WEB_PORT": str(port),
            "YEOUL_KAFKA_URL": f"127.0.0.1:{free_port()},127.0.0.1:{port}",
            "YEOUL_POSTGRES_URL": f"postgresql:///d?host={tmp_path}/nobody",
            "YEOUL_REDIS_URL": f"redis://:marker@127.0.0.1:{free_port()}",
        }
        done = yeoul(tmp_path / "none", environ, "doctor")
    lines = {line.split()[1]: line for line in done.out.splitlines() if line.startswith("  ")}
    front, servers = lines["front"], lines["servers"]
    assert done.code == 1
    assert ("WRONG" in front, f"process {os.getpid()}" in front) == (True, True)
    assert [name in servers for name in ("Kafka", "PostgreSQL", "Redis", "marker")] == [False, True, True, False]


def test_a_port_of_the_front_that_was_kept_and_is_taken_now_is_said_with_the_way_out(
    tmp_path: Path, process_environ: dict[str, str]
) -> None:
    (tmp_path / "state").mkdir()
    state = State(tmp_path / "state")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        state.write("ports", {"front": port})
        with pytest.raises(PortBusy, match=f"Port {port}, meant for front, .* YEOUL_WEB_PORT=8090 ./yeoul up"):
            state.port("front", 8080, OTHER_PORT)
        done = yeoul(tmp_path / "state", process_environ, "doctor")
    lines = {line.split()[1]: line for line in done.out.splitlines() if line.startswith("  ")}
    assert done.code == 1
    assert ("WRONG" in lines["front"], f"port {port}" in lines["front"]) == (True, True)
    assert "YEOUL_WEB_PORT=8090" in lines["front"]
    assert "WRONG" not in lines["ports"]


def test_status_of_nothing(tmp_path: Path, process_environ: dict[str, str]) -> None:
    done = yeoul(tmp_path / "none", process_environ, "status", "--json")
    nothing: dict[str, object] = {
        "ready": False,
        "front": None,
        "kafka": None,
        "postgres": None,
        "redis": None,
        "metrics": {},
        "processes": [],
        "more_workers": [],
    }
    assert (done.code, json.loads(done.out)) == (3, nothing)
    assert not (tmp_path / "none").exists()


def test_down_of_nothing_is_well(tmp_path: Path, process_environ: dict[str, str]) -> None:
    done = yeoul(tmp_path / "none", process_environ, "down")
    assert (done.code, done.out) == (0, "nothing runs here\n")


def test_down_ends_what_a_crash_left(tmp_path: Path, process_environ: dict[str, str]) -> None:
    state = State(tmp_path / "state")
    state.take()
    state.release()
    with subprocess.Popen(["sleep", "600"]) as orphan:
        try:
            remember(state, "valkey", orphan.pid)
            refused = yeoul(state.folder, process_environ, "reset", "--yes")
            assert (refused.code, "./yeoul down" in refused.err) == (1, True)
            done = yeoul(state.folder, process_environ, "down")
            assert (done.code, "valkey" in done.out) == (0, True)
            assert orphan.wait(10) < 0
        finally:
            orphan.kill()


def test_reset_asks_first_and_leaves_others_folders_alone(tmp_path: Path, process_environ: dict[str, str]) -> None:
    state = State(tmp_path / "a state")
    state.take()
    short = socket_folder(state.folder)
    short.mkdir(mode=0o700)
    refused = yeoul(state.folder, process_environ, "reset", "--yes")
    assert (refused.code, "runs already" in refused.err) == (1, True)
    state.release()
    assert yeoul(state.folder, process_environ, "reset").code == 1
    assert state.folder.exists()
    assert yeoul(state.folder, process_environ, "reset", "--yes").code == 0
    assert not state.folder.exists()
    assert not short.exists()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    assert yeoul(tmp_path / "precious", process_environ, "reset", "--yes").code == 1
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize("names", [("notes",), ("logs/web.log",), ("run.json",), ("mail/1",), ("lock", "notes")])
@pytest.mark.parametrize("options", [(), ("--detach",)])
def test_a_folder_that_others_made_is_no_state_folder(
    options: tuple[str, ...], names: tuple[str, ...], tmp_path: Path, process_environ: dict[str, str]
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    for name in names:
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("mine" if name != "lock" else "")
    # Where it were taken after all, nothing would start.
    up = yeoul(home, process_environ | {"YEOUL_REDIS_URL": f"redis://127.0.0.1:{free_port()}"}, "up", *options)
    assert (up.code, up.err.count("\n"), "YEOUL_STATE_DIR=" in up.err) == (1, 1, True), up.err
    assert names[-1].partition("/")[0] in up.err
    reset = yeoul(home, process_environ, "reset", "--yes")
    assert (reset.code, "left alone" in reset.err) == (1, True)
    yeoul(home, process_environ, "down")
    # Nothing is added, changed or removed.
    assert {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} == set(names)
    assert home.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"lock": ""},
        {"lock": "4711", "logs/web.log": "", "ports.json": "{}", "run.new": ""},
        {"slots/resources.0.lock": ""},
        {"metrics/web-17/counter.db": "", "slots/resources.0.lock": ""},
    ],
)
def test_a_folder_that_we_made_or_an_empty_one_becomes_the_state_folder(files: dict[str, str], tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.folder.mkdir()
    for name, text in files.items():
        (state.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (state.folder / name).write_text(text)
    state.take()
    assert state.holder() == os.getpid()
    state.release()


def test_what_was_put_beside_the_data_keeps_reset_away_but_not_up(
    tmp_path: Path, process_environ: dict[str, str]
) -> None:
    state = State(tmp_path / "state")
    state.take()
    state.secrets()
    state.release()
    mine = state.folder / "dump.sql"
    mine.touch()
    state.take()
    state.release()
    done = yeoul(state.folder, process_environ, "reset", "--yes")
    assert (done.code, "dump.sql" in done.err, "lock, logs, secrets.json" in done.err) == (1, True, True)
    assert mine.exists()
    mine.unlink()
    assert yeoul(state.folder, process_environ, "reset", "--yes").code == 0


@pytest.fixture
def others(tmp_path: Path, process_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder that another user made; we are nobody where the tests run as root."""
    state = State(tmp_path / "state")
    state.take()
    state.release()
    monkeypatch.setenv("YEOUL_STATE_DIR", str(state.folder))
    (state.folder / "lock").chmod(0)
    root = os.geteuid() == 0
    if root:
        tmp_path.chmod(0o711)
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield state.folder
    if root:
        os.seteuid(0)


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "--json"), ("down",), ("reset", "--yes"), ("up",), ("up", "--detach"), ("token", "a@b.c")],
)
def test_what_another_user_runs_is_told(
    arguments: tuple[str, ...], others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(list(arguments)) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert str(others) in said.err
    assert "belongs to " in said.err
    assert "YEOUL_STATE_DIR=" in said.err


@pytest.mark.usefixtures("others")
def test_the_doctor_tells_what_another_user_runs() -> None:
    well, line = doctor._safely(doctor._running)
    assert (well, "belongs to " in line) == (False, True)


def test_the_doctor_tells_of_a_java_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = tmp_path / "java"
    frozen.write_text("#!/bin/sh\nexec sleep 600\n")
    frozen.chmod(0o700)
    monkeypatch.setattr(doctor, "java", lambda: frozen)
    monkeypatch.setattr(doctor, "JAVA_S", 0.2)
    well, line = doctor._safely(doctor._java)
    assert (well, str(frozen) in line, "Try again" in line) == (False, True, True)
