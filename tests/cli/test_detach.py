"""`up --detach` where it can't begin, or where another `up` is at it: without servers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import detach
from embedded.errors import DiskFull, EmbeddedError
from embedded.state import State
from tests.cli.harness import ROOT, yeoul


@pytest.mark.parametrize("options", [(), ("--detach",)])
def test_a_state_folder_that_cannot_be_made_is_told(options: tuple[str, ...], process_environ: dict[str, str]) -> None:
    done = yeoul(Path("/proc/nowhere/state"), process_environ, "up", *options)
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert "The state folder /proc/nowhere/state cannot be written" in done.err


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch

    def full(path: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        if path.name == detach.LOG:
            raise OSError(errno.ENOSPC, "No space left on device")
        touch(path, mode, exist_ok)

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(DiskFull, match="YEOUL_STATE_DIR="):
        detach.detach(tmp_path / "state")


@contextmanager
def second(state: State, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """An `up --detach` that waits for us, who hold the folder."""
    command = [sys.executable, "-m", "cli", "up", "--detach"]
    own = environ | {"YEOUL_STATE_DIR": str(state.folder)}
    with subprocess.Popen(
        command, cwd=ROOT, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert f"Process {os.getpid()} runs it and is not ready yet" in process.stdout.readline()
        yield process


def test_who_comes_second_returns_when_the_first_is_ready(tmp_path: Path, process_environ: dict[str, str]) -> None:
    state = State(tmp_path / "state")
    # As a run that crashed left it.
    state.make()
    state.write("run", {"ready": True, "pid": 1, "front": "http://127.0.0.1:1", "environ": {}})
    state.take()
    try:
        with second(state, process_environ) as process:
            state.write("run", {"ready": False, "pid": os.getpid(), "front": "http://127.0.0.1:2", "environ": {}})
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5 * detach.POLL_S)
            state.write("run", {"ready": True, "pid": os.getpid(), "front": "http://127.0.0.1:2", "environ": {}})
            out, err = process.communicate(timeout=30)
    finally:
        state.release()
    assert (process.returncode, err) == (0, "")
    assert f"It runs already (process {os.getpid()}): http://127.0.0.1:2." in out


def test_who_comes_second_fails_when_the_first_ends(tmp_path: Path, process_environ: dict[str, str]) -> None:
    state = State(tmp_path / "state")
    state.take()
    with second(state, process_environ) as process:
        state.release()
        _, err = process.communicate(timeout=30)
    assert (process.returncode, "ended before it was ready" in err) == (1, True)


def test_who_was_slower_by_a_moment_waits_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    state = State(tmp_path / "state")
    state.take()
    state.write("run", {"ready": False, "pid": os.getpid(), "environ": {}})
    monkeypatch.setenv("YEOUL_STATE_DIR", str(state.folder))
    holder, asked = State.holder, []

    def at_first_nobody(asking: State) -> int | None:
        asked.append(asking)
        return None if len(asked) == 1 else holder(asking)

    def ready_now(_: float) -> None:
        state.write("run", {"ready": True, "pid": os.getpid(), "front": "http://127.0.0.1:2", "environ": {}})

    monkeypatch.setattr(State, "holder", at_first_nobody)
    monkeypatch.setattr(detach, "time", SimpleNamespace(sleep=ready_now))
    try:
        assert detach.detach(state.folder) == 0
    finally:
        state.release()
    assert "It runs already (process" in capfd.readouterr().out


def test_one_that_is_stopped_while_it_starts_was_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `up` ends with 0 when it is told to stop.
    command = [sys.executable, "-c", "pass"]
    with subprocess.Popen(command) as stopped:
        monkeypatch.setattr("cli.detach.subprocess.Popen", lambda *_, **__: stopped)
        with pytest.raises(EmbeddedError, match="ended before it was ready"):
            detach.detach(tmp_path / "state")
