"""`test`: the one gate. Linters, types, arrows between rooms, then pytest; its summary is the last line."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import config
from cli import browser, node

HELP = "the linters and every test; --quick in seconds, --full with the faults in full size"

GATES = (
    ("ruff", "check", "--quiet", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", "--no-error-summary", "."),
    ("importlinter.cli", "lint"),
)
QUICK = ("tests/domain", "tests/web", "tests/config")
MOST_AT_ONCE = 4
"""Processes that share the tests, each with servers of its own if need be: one more than processors, for most tests
wait more than they work.

In full size they run one after the other: the bounds there are promises of a machine that does nothing else.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments; the others are pytest's."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="no servers: tests of domain, web and config")
    size.add_argument(
        "--full", action="store_true", help="also the tests marked `full`: faults in the sizes we promise"
    )
    parser.epilog = "Other arguments go to pytest: ./yeoul test -k tokens tests/web"


def run(options: argparse.Namespace) -> int:
    """The exit code of the first gate that fails, else pytest's. Every gate is run, so one run tells all."""
    environ = config.process_environ()
    environ["YEOUL_TEST_FULL"] = "1" if options.full else "0"
    failed = 0

    def finished(gate: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *gate] if gate[0] != "importlinter.cli" else LINT_IMPORTS
        return subprocess.run(command, check=False, env=environ, capture_output=True, text=True)

    gates = GATES if not options.unknown else ()
    with ThreadPoolExecutor(len(GATES)) as side_by_side:
        for gate, done in zip(gates, side_by_side.map(finished, gates), strict=True):
            print(f"{gate[0].partition('.')[0]:<13}{'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
            if done.returncode:
                print(done.stdout + done.stderr, flush=True)
                failed = failed or done.returncode
    arguments = [*(QUICK if options.quick else ()), *options.unknown]
    if not options.quick:
        browser.ensure()
        node.ensure()
    if not options.unknown and not options.full:
        arguments += ["--numprocesses", str(min(MOST_AT_ONCE, (os.cpu_count() or 1) + 1)), "--dist", "loadscope"]
        arguments.append("--no-loadscope-reorder")  # tests/conftest.py knows the better order
    finished_tests = subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False, env=environ)
    return failed or finished_tests.returncode


# import-linter has no `python -m` of its own.
LINT_IMPORTS = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
