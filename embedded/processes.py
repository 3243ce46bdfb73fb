"""Operating system processes: started on a leash, logged to a file, remembered on disk, stopped for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from embedded.errors import DiskFull, is_disk_full
from embedded.state import State

LEASH = Path(__file__).with_name("leash.py")
POLL_S = 0.05
LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class Command:
    """A program to run: `argv`, what its environment holds besides PATH, HOME and the like, and as whom."""

    argv: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: tuple[int, int] | None = None
    """uid and gid to change to; None keeps ours."""


class Child:
    """One running process of a part. Its standard output and errors are appended to `log`."""

    def __init__(self, name: str, state: State, popen: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._state = state
        self._popen = popen
        self._ended: asyncio.Task[int] = asyncio.create_task(_ended(popen), name=f"{name} ends")

    @classmethod
    def start(cls, name: str, command: Command, state: State, log: Path, stop_signal: signal.Signals) -> Child:
        """Starts the program. Raises `DiskFull`, or OSError when it cannot be started."""
        uid, gid = command.user or (-1, -1)
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(stop_signal.value), str(uid), str(gid)]
        try:
            with log.open("ab") as output:
                popen = subprocess.Popen(
                    [*leash, *command.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=command.folder,
                    env={**command.environ},
                    # A Ctrl-C of the terminal is ours to hear: we stop the children in order.
                    start_new_session=True,
                    # Records, logs and cores are for their owner alone, also where others may pass through the folder.
                    umask=0o077,
                )
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(state.folder) from None
            raise
        with contextlib.suppress(psutil.NoSuchProcess):
            remember(state, name, popen.pid)
        return cls(name, state, popen)

    @property
    def pid(self) -> int:
        """Its process id; meaningful while it runs."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when it has ended already."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(number)

    async def stop(self, number: signal.Signals, timeout_s: float) -> bool:
        """Asks it to end, and kills it after `timeout_s`. False when it had to be killed."""
        self.send(number)
        graceful = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            graceful = False
            self.send(signal.SIGKILL)
            await self.wait()
        forget(self._state, self.name)
        return graceful


async def run_to_end(name: str, command: Command, state: State, log: Path) -> int:
    """Runs a program that ends by itself, and gives its exit code. It ends with us when this is cancelled."""
    child = Child.start(name, command, state, log, signal.SIGTERM)
    try:
        return await child.wait()
    finally:
        await child.stop(signal.SIGTERM, 10.0)


async def _ended(popen: subprocess.Popen[bytes]) -> int:
    """Waits for the end without a thread where the system has pidfd, else with one.

    What the process started itself (a front's own processes) ends with it. That is done before the process is
    reaped: until then nobody else can get its number, which is also its group's.
    """
    if not hasattr(os, "pidfd_open"):
        return await asyncio.to_thread(popen.wait)
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(popen.pid)
    over = asyncio.Event()
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    end_group(popen.pid)
    return popen.wait()


def end_group(pid: int) -> None:
    """Kills what is left of the process group that `pid` leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def remember(state: State, name: str, pid: int) -> None:
    """Writes down that `name` is process `pid`, so that a later start can end it if it is left over."""
    record = {"pid": pid, "started": psutil.Process(pid).create_time()}
    state.write("processes", state.read("processes") | {name: record})


def forget(state: State, name: str) -> None:
    """Strikes `name` from what `remember` wrote."""
    known = state.read("processes")
    if known.pop(name, None) is not None:
        state.write("processes", known)


def left_over(state: State) -> dict[str, psutil.Process]:
    """The processes of an earlier run that still live. A pid that was given to another program since does not count."""
    found: dict[str, psutil.Process] = {}
    for name, record in state.read("processes").items():
        with contextlib.suppress(psutil.Error, KeyError, TypeError):
            process = psutil.Process(record["pid"])
            # The same moment of start, up to the clock's rounding, makes it the same process.
            if abs(process.create_time() - record["started"]) < 0.1 and process.status() != psutil.STATUS_ZOMBIE:
                found[name] = process
    return found


async def end_left_over(state: State, timeout_s: float = 15.0) -> list[str]:
    """Ends what an earlier run left behind, asking first; gives the names. Last started, first ended."""
    found = left_over(state)
    for process in reversed(found.values()):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
            # SIGINT is PostgreSQL's fast stop; SIGTERM would wait for its clients.
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    for process in await _alive_after(list(found.values()), timeout_s):
        end_group(process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    await _alive_after(list(found.values()), 5.0)
    state.remove("processes")
    return list(found)


async def _alive_after(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that still live after `timeout_s`; returns as soon as none does.

    They are not our children, so the system tells nobody here when they end. A zombie whose parent never asks for it
    (in a container without an init) has ended as well.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        processes = [process for process in processes if _lives(process)]
        if not processes or time.monotonic() > deadline:
            return processes
        await asyncio.sleep(POLL_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def bound_log(log: Path, limit: int = LOG_BYTES) -> None:
    """Keeps a log below `limit` bytes: its end is copied to `<name>.1`, and the file begins again.

    The writer holds it open for appending, so it goes on at the new end; a line written between copy and cut is lost.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size > limit:
            with log.open("rb") as file, log.with_name(f"{log.name}.1").open("wb") as old:
                file.seek(-limit // 2, os.SEEK_END)
                old.write(file.read())
            os.truncate(log, 0)


def tail(log: Path, size: int = 8192) -> str:
    """The end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
