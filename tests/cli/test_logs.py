"""Logs of the processes that `up` starts: which there are, their end, and what of them is worth a look."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.follow import loud
from embedded.state import State
from tests.cli.harness import yeoul


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
