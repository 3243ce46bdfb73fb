"""`test`: which gates are run, what goes to pytest, and whose exit code is given."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from cli import main

GATES = {"ruff check", "ruff format", "mypy", "lint_imports"}


class Programs:
    """What was run in place of the real programs; those in `failing` end with the code that is given there."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.gates: list[str] = []
        self.pytest: list[list[str]] = []
        self.full: set[str] = set()
        self.installed: list[str] = []

    def run(self, command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run`."""
        words = command[2:]
        if words[0] == "pytest":
            name = "pytest"
            self.pytest.append(words[1:])
            self.full.add(env["YEOUL_TEST_FULL"])
        else:
            name = next(gate for gate in GATES if gate in " ".join(words))
            self.gates.append(name)
        return subprocess.CompletedProcess(command, self.failing.get(name, 0), f"{name} said this\n", "")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Nothing is really run or installed."""
    made = Programs()
    monkeypatch.setattr("cli.test.subprocess.run", made.run)
    for name in ("browser", "node"):
        monkeypatch.setattr(f"cli.{name}.ensure", lambda name=name: made.installed.append(name))
    monkeypatch.setattr("cli.test.os.cpu_count", lambda: 2)
    return made


SHARED = ["--numprocesses", "3", "--dist", "loadscope", "--no-loadscope-reorder"]


@pytest.mark.parametrize(
    ("arguments", "to_pytest", "full", "installed"),
    [
        ([], SHARED, "0", ["browser", "node"]),
        (["--quick"], ["tests/domain", "tests/web", "tests/config", *SHARED], "0", []),
        (["--full"], [], "1", ["browser", "node"]),
    ],
)
def test_every_gate_is_run_and_then_the_tests(
    arguments: list[str], to_pytest: list[str], full: str, installed: list[str], programs: Programs
) -> None:
    assert main.main(["test", *arguments]) == 0
    assert sorted(programs.gates) == sorted(GATES)
    assert (programs.pytest, programs.full) == ([to_pytest], {full})
    assert programs.installed == installed


def test_what_it_does_not_know_goes_to_pytest_alone(programs: Programs) -> None:
    assert main.main(["test", "-k", "tokens", "tests/web"]) == 0
    assert (programs.gates, programs.pytest) == ([], [["-k", "tokens", "tests/web"]])


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        *(({gate: 3}, 3) for gate in sorted(GATES)),
        ({"mypy": 2, "pytest": 1}, 2),
        ({"pytest": 5}, 5),
    ],
)
def test_what_fails_is_told_and_the_rest_is_run_all_the_same(
    failing: dict[str, int], code: int, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.failing = failing
    assert main.main(["test", "--quick"]) == code
    assert (len(programs.gates), len(programs.pytest)) == (len(GATES), 1)
    told = capsys.readouterr().out
    gates = failing.keys() - {"pytest"}
    assert told.count("FAILED") == len(gates)
    assert all((f"{gate} said this" in told) == (gate in gates) for gate in GATES)


def test_quick_and_full_are_not_asked_for_together(programs: Programs) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(["test", "--quick", "--full"])
    assert (left.value.code, programs.pytest) == (2, [])
