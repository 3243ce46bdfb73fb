"""The table of commands. Each is a module with `HELP`, `arguments(parser)` and `run(options) -> int`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Protocol, cast

from cli.failures import sentence

COMMANDS = {
    "Run it": ("up", "down", "status", "logs", "reset"),
    "Use it": (
        "token",
        "admin",
        "role",
        "keys",
        "mail",
        "tail",
        "report",
        "metrics",
        "dead-letters",
        "openapi",
        "asyncapi",
    ),
    "Run parts of it": ("worker", "web", "migrate", "topics"),
    "Work on it": ("test", "bench", "doctor"),
}

RELEASE = "unreleased"
"""As the topmost heading of CHANGELOG.md."""

INTRODUCTION = """\
Yeoul: a backend in which every change is an event.

    ./yeoul up            real Kafka, PostgreSQL, Valkey, workers and the front; prints what to paste next
    ./yeoul tail          each event as it happens, in a second terminal
    ./yeoul worker        one more worker shares the load, in a third
"""

EPILOGUE = """\
`./yeoul COMMAND --help` tells more of each, `./yeoul --version` which one this is.
Settings are variables YEOUL_…; docs/operators.md lists them.
Everything lives in .yeoul/ (data, logs, generated secrets): ./yeoul reset --yes removes it.
"""


class Module(Protocol):
    """What a command's module offers."""

    HELP: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's own arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Does it; the exit code."""


def module(command: str) -> Module:
    """The module of a command: `dead-letters` is cli/dead_letters.py."""
    return cast("Module", importlib.import_module(f"cli.{command.replace('-', '_')}"))


def overview() -> str:
    """What `./yeoul help` prints."""
    lines = [INTRODUCTION]
    for title, commands in COMMANDS.items():
        lines.append(f"{title}:")
        lines += [f"  {command:<14}{module(command).HELP}" for command in commands]
        lines.append("")
    return "\n".join(lines) + EPILOGUE


def version() -> str:
    """The release, and in a clone the commit."""
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        with contextlib.suppress(OSError):
            asked = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
            said = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
            return f"{RELEASE}, commit {said}" if said else RELEASE
    return RELEASE


def main(arguments: list[str]) -> int:
    """Runs the command that `arguments` name; gives its exit code: 0 done, 1 could not, 2 was asked wrongly."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command in ("help", "-h", "--help"):
        if rest and rest[0] in sum(COMMANDS.values(), ()):
            return main([rest[0], "--help"])
        print(overview())
        return 0
    if command == "--version":
        print(f"yeoul {version()}")
        return 0
    if command not in sum(COMMANDS.values(), ()):
        print(f"yeoul: there is no command {command!r}; ./yeoul help lists them", file=sys.stderr)
        return 2
    # Where nobody set logs up, Python prints warnings bare; that a server is away is said below, in a sentence.
    for name in ("aiokafka", "yeoul.streams.producer", "yeoul.stores.postgres"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        return _run(command, rest)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        said = sentence(error)
        if said is None:
            raise
        print(f"yeoul: {said}", file=sys.stderr)
        return 1


def _run(command: str, rest: list[str]) -> int:
    chosen = module(command)
    parser = argparse.ArgumentParser(prog=f"./yeoul {command}", description=chosen.HELP, allow_abbrev=False)
    chosen.arguments(parser)
    # `test` hands everything it does not know to pytest.
    options, unknown = parser.parse_known_args(rest)
    if unknown and command != "test":
        parser.error(f"unknown: {' '.join(unknown)}")
    options.unknown = unknown
    return chosen.run(options)
