"""The commands' face: what is printed and with which exit code, without servers."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import bootstrap, doctor, main
from cli.connection import OTHER_PORT
from cli.follow import loud
from cli.tail import _watch
from embedded.errors import PortBusy
from embedded.postgres import socket_folder
from embedded.processes import remember
from embedded.state import State, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = [command for commands in main.COMMANDS.values() for command in commands]


class Finished:
    """What a command printed, and its exit code."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


def yeoul(state_dir: Path, environ: dict[str, str], *arguments: str) -> Finished:
    """Runs a command as `./yeoul` does."""
    command = [sys.executable, "-m", "cli", *arguments]
    own = environ | {"YEOUL_STATE_DIR": str(state_dir)}
    return Finished(
        subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=120)
    )


def test_help_names_every_command_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["help"]) == 0
    printed = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command}" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main.main([command, "--help"])
    assert left.value.code == 0
    assert f"./yeoul {command}" in capsys.readouterr().out


def test_an_unknown_command_or_argument_is_an_error_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["upp"]) == 2
    assert "./yeoul help" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main.main(["down", "--now"])
    assert left.value.code == 2


def test_the_version_is_that_of_the_changelog(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    release = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert release is not None
    assert capsys.readouterr().out.startswith(f"yeoul {release[1].lower()}")


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


async def test_tail_says_once_that_kafka_goes_and_comes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.tail.WATCH_EVERY_S", 0.01)
    port = free_port(set())
    watching = asyncio.create_task(_watch(f"127.0.0.1:{port}"))
    said = ""
    try:
        async with asyncio.timeout(20):
            while "is away" not in said:
                await asyncio.sleep(0.1)
                said += capsys.readouterr().err
            async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port):
                while "is back" not in said:
                    await asyncio.sleep(0.1)
                    said += capsys.readouterr().err
    finally:
        watching.cancel()
    assert said.count("\n") == 2


def test_logs_are_listed_shown_and_unknown_ones_told(tmp_path: Path, process_environ: dict[str, str]) -> None:
    state = State(tmp_path / "state")
    assert "./yeoul up" in yeoul(state.folder, process_environ, "logs").err
    state.take()
    state.release()
    (state.logs / "web.log").write_text("one\ntwo\nthree\n")
    (state.logs / "kafka.log").touch()
    assert [line.split()[0] for line in yeoul(state.folder, process_environ, "logs").out.splitlines()] == [
        "kafka",
        "web",
    ]
    assert yeoul(state.folder, process_environ, "logs", "web", "--lines", "2").out == "two\nthree\n"
    unknown = yeoul(state.folder, process_environ, "logs", "../secrets")
    assert (unknown.code, "kafka, web" in unknown.err) == (1, True)


@pytest.mark.parametrize(
    "line",
    [
        "dead-letters list --limit -3",
        "dead-letters list --limit 0",
        "dead-letters list --limit 99999999999999999999",
        "dead-letters list --after 99999999999999999999",
        "dead-letters show 99999999999999999999",
        "dead-letters replay 99999999999999999999",
        "dead-letters resume a b 99999999999999 1",
        "dead-letters resume a b 1 99999999999999999999",
        "report --from 0001-01-01T00:00+14:00",
        "report --from 9999-12-31T23:00:00-14:00",
        "tail --count 0",
        "tail --count -1",
    ],
)
def test_a_number_or_time_out_of_bounds_is_an_error_of_the_caller(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(line.split())
    assert left.value.code == 2
    assert "usage: ./yeoul" in capsys.readouterr().err


def test_the_doctor_looks_for_the_fronts_port_and_for_named_servers(
    tmp_path: Path, process_environ: dict[str, str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environ = process_environ | {
            "YEOUL_WEB_PORT": str(port),
            "YEOUL_KAFKA_URL": f"127.0.0.1:{free_port(set())},127.0.0.1:{port}",
            "YEOUL_POSTGRES_URL": f"postgresql:///d?host={tmp_path}/nobody",
            "YEOUL_REDIS_URL": f"redis://:marker@127.0.0.1:{free_port(set())}",
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


@pytest.mark.parametrize("arguments", [("migrate",), ("topics",), ("worker",), ("web",), ("token", "a@example.com")])
def test_a_command_without_servers_says_how_to_get_them(
    arguments: tuple[str, ...], tmp_path: Path, process_environ: dict[str, str]
) -> None:
    done = yeoul(tmp_path / "none", process_environ, *arguments)
    assert done.code == 1
    assert "./yeoul up" in done.err
    assert "Traceback" not in done.err


def test_wrong_settings_are_sentences(tmp_path: Path, process_environ: dict[str, str]) -> None:
    environ = process_environ | {"YEOUL_WEB_PORT": "x", "YEOUL_LANGUAGE": "fr"}
    done = yeoul(tmp_path / "none", environ, "up")
    assert done.code == 1
    assert "YEOUL_WEB_PORT" in done.err
    assert "YEOUL_LANGUAGE" in done.err
    assert "Traceback" not in done.err


def test_tokens_are_not_given_away_elsewhere(tmp_path: Path, process_environ: dict[str, str]) -> None:
    from config import EXAMPLE_KEY

    environ = process_environ | {f"YEOUL_{noun}_KEY": EXAMPLE_KEY for noun in ("COMMAND", "INDEX", "CURSOR", "SEALING")}
    environ |= {"YEOUL_TOKEN_KEYS": f"a:{EXAMPLE_KEY}", "YEOUL_ENVIRONMENT": "staging"}
    environ |= {
        "YEOUL_KAFKA_URL": "localhost:1",
        "YEOUL_POSTGRES_URL": "postgresql://h/d",
        "YEOUL_REDIS_URL": "redis://h",
    }
    done = yeoul(tmp_path / "none", environ, "token", "a@example.com", "--role", "admin")
    assert (done.code, "staging" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"level": "info", "message": "fine"}', None),
        ('{"level": "warning", "message": "look"}', "WARNING look"),
        ('{"level": "error", "message": "ouch"}', "ERROR ouch"),
        ("2026-11-23 INFO started", None),
        ("2026-11-23 ERROR broken", "2026-11-23 ERROR broken"),
        ("Segmentation fault", "Segmentation fault"),
        ("", None),
        ('{"cut', '{"cut'),
    ],
)
def test_only_what_matters_of_a_log_is_shown(line: str, shown: str | None) -> None:
    assert loud(line) == shown


class TestBootstrap:
    """Which `.venv` is taken for whole."""

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for lock in (bootstrap.RUNTIME, bootstrap.TESTS):
            (tmp_path / lock).write_text(f"of {lock}")
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
        monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
        monkeypatch.setattr(bootstrap, "PYTHON", python)
        monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "yeoul.json")
        return tmp_path

    def stamp(self, *locks: str) -> None:
        bootstrap.STAMP.write_text(json.dumps({lock: bootstrap._digest(lock) for lock in locks}))

    def test_without_a_stamp_it_was_interrupted(self, root: Path) -> None:
        assert not bootstrap._installed(bootstrap.RUNTIME)
        bootstrap.STAMP.write_text('{"requirem')
        assert not bootstrap._installed(bootstrap.RUNTIME)

    def test_the_tests_need_more(self, root: Path) -> None:
        self.stamp(bootstrap.RUNTIME)
        assert bootstrap._installed(bootstrap.RUNTIME)
        assert not bootstrap._installed(bootstrap.TESTS)
        self.stamp(bootstrap.RUNTIME, bootstrap.TESTS)
        assert bootstrap._installed(bootstrap.TESTS)

    def test_another_lock_is_installed_again(self, root: Path) -> None:
        self.stamp(bootstrap.RUNTIME, bootstrap.TESTS)
        (root / bootstrap.RUNTIME).write_text("newer")
        assert not bootstrap._installed(bootstrap.RUNTIME)

    def test_a_python_of_another_user_is_told(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.stamp(bootstrap.RUNTIME)
        monkeypatch.setattr(bootstrap, "VENV", root / ".venv")
        bootstrap.PYTHON.chmod(0o600)
        monkeypatch.setattr("os.geteuid", lambda: 12345)
        assert bootstrap.main(["status"]) == 1
        said = capsys.readouterr().err
        assert ("was made by user" in said, "of your own" in said, said.count("\n")) == (True, True, 1)

    def test_a_python_that_is_gone_is_noticed(self, root: Path) -> None:
        self.stamp(bootstrap.RUNTIME)
        bootstrap.PYTHON.unlink()
        assert not bootstrap._installed(bootstrap.RUNTIME)

    @pytest.mark.parametrize(
        ("output", "said"),
        [
            ("OSError: [Errno 28] No space left on device", "full"),
            ("error: Could not resolve host", "network"),
            ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one the lock names"),
            ("something else", "rm -rf .venv"),
        ],
    )
    def test_a_failed_installation_tells_the_way_out(self, output: str, said: str) -> None:
        assert said in bootstrap._way_out(output)
