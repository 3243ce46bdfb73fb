"""What the doctor finds: each thing that can be wrong, with the mend; and that nothing else is wrong then."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import doctor
from embedded.processes import remember
from embedded.state import State, free_port

Patch = pytest.MonkeyPatch


def musl(patch: Patch, _: State) -> None:
    patch.setattr(platform, "libc_ver", lambda: ("", ""))


def no_wheel(patch: Patch, _: State) -> None:
    patch.setattr(doctor, "WHEELS", (*doctor.WHEELS, "no_such_wheel"))


def no_library(patch: Patch, _: State) -> None:
    run = subprocess.run

    def ran(command: list[Any], **options: Any) -> Any:
        if command[0] != "ldd":
            return run(command, **options)
        return subprocess.CompletedProcess(command, 0, "\tlibxml2.so.2 => not found\n\tlibc.so.6 => /lib/libc.so.6\n")

    patch.setattr(subprocess, "run", ran)


def broken_java(patch: Patch, _: State) -> None:
    patch.setattr(doctor, "java", lambda: shutil.which("false"))


def full_disk(patch: Patch, _: State) -> None:
    free = shutil.disk_usage("/")._replace(free=1 << 20)
    patch.setattr(shutil, "disk_usage", lambda _: free)


def little_memory(patch: Patch, _: State) -> None:
    patch.setattr(doctor, "MEMORY_BYTES", 1 << 50)


def wrong_setting(patch: Patch, _: State) -> None:
    patch.setenv("YEOUL_WEB_PROCESSES", "many")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: Patch, process_environ: dict[str, str]) -> State:
    """A state folder of its own, nothing set but that, and as much memory as is needed, whatever else runs here."""
    for name in set(os.environ) - set(process_environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("YEOUL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(doctor, "MEMORY_BYTES", 1 << 20)
    made = State(tmp_path / "state")
    made.make()
    return made


def wrong(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines of what is wrong, by its name."""
    code = doctor.run(argparse.Namespace())
    told = re.findall(r"^  (ok   |WRONG) (\w+) +(.*\n(?:    .*\n)*)", capsys.readouterr().out, re.MULTILINE)
    assert [name for _, name, _ in told] == [check.__name__.strip("_") for check in doctor.CHECKS]
    found = {name: said for verdict, name, said in told if verdict == "WRONG"}
    assert code == bool(found)
    return found


def test_of_a_machine_that_is_well_nothing_is_wrong(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert wrong(capsys) == {}


@pytest.mark.parametrize(
    ("fault", "names", "said"),
    [
        (musl, {"machine"}, "docker compose up"), (no_wheel, {"packages"}, "missing: no_such_wheel. Install again"),
        (no_library, {"libraries"}, "missing: libxml2.so.2. Install the"), (broken_java, {"java"}, "no answer"),
        (full_disk, {"disk"}, "200 MB are needed"), (little_memory, {"memory"}, "the whole takes up to"),
        (wrong_setting, {"settings", "broker", "front", "servers"}, "settings"),
    ],
)  # fmt: skip
def test_each_is_told_with_its_mend(
    state: State, capsys: pytest.CaptureFixture[str], monkeypatch: Patch,
    fault: Callable[[Patch, State], None], names: set[str], said: str,
) -> None:  # fmt: skip
    fault(monkeypatch, state)
    found = wrong(capsys)
    assert set(found) == names
    assert all(said in line for line in found.values()), found
    assert fault is not wrong_setting or "YEOUL_WEB_PROCESSES" in found["settings"]


def test_a_port_of_the_last_run_that_is_taken_is_told(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        state.write("ports", {"kafka": port})
        found = wrong(capsys)
    assert set(found) == {"ports"}
    assert f"{port} (kafka)" in found["ports"]
    assert str(state.folder / "ports.json") in found["ports"]
    assert wrong(capsys) == {}


def test_what_a_crash_left_is_told(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["sleep", "600"]) as orphan:
        try:
            remember(state, "valkey", orphan.pid)
            found = wrong(capsys)
            assert set(found) == {"running"}
            assert "left over from a run that crashed: valkey. ./yeoul down stops them" in found["running"]
        finally:
            orphan.kill()
    assert wrong(capsys) == {}
