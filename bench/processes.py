"""Children of the bench: start, follow, stop, and what they cost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil

from embedded.processes import LEASH

ROOT = Path(__file__).resolve().parent.parent
STOP_S = 25.0
READY_S = 60.0
MEGABYTE = 1_000_000


class ChildError(Exception):
    """A process of the bench ended, or did not become ready: `{name}: {what}; its log is {log}`."""


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """The processes `pids` and all that descend from them; those that ended are left out."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            for member in (process, *process.children(recursive=True)):
                found[member.pid] = member
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """CPU seconds (user and system) of each process of the trees, so far."""
    used = {}
    for process in tree(pids):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[process.pid] = times.user + times.system
    return used


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU seconds used from one reading of `cpu_seconds` to a later one."""
    return sum(used - before.get(pid, 0.0) for pid, used in after.items())


def resident_mb(pids: Iterable[int]) -> float:
    """Resident megabytes (10^6 bytes) of the trees, pages they share counted in each."""
    total = 0
    for process in tree(pids):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MEGABYTE


class Child:
    """One process of the bench with its log. `start` it, then `stop` or `kill`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls, name: str, arguments: Iterable[str], environ: Mapping[str, str], logs: Path, *, follow: bool = False,
        program: Iterable[str] = (sys.executable, "-m"),
    ) -> "Child":  # fmt: skip
        """Start `python -m arguments…` (or another `program`) in the root; `follow` keeps its output for `lines`.

        The child sees only `environ`: no variable of the caller's shell changes a figure. It is on the leash of
        the embedded servers: it ends when the bench does, however that ends.
        """
        log = logs / f"{name}.log"
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(signal.SIGTERM.value), "-1", "-1"]
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *leash,
                *program,
                *arguments,
                cwd=ROOT,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", **environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if follow else sink,
                stderr=sink,
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def failure(self, what: str) -> ChildError:
        """The error that tells `what` went wrong, with the end of the log."""
        last = self.log.read_text(errors="replace").strip().splitlines()[-8:]
        return ChildError(f"{self.name}: {what}; its log is {self.log}:\n  " + "\n  ".join(last))

    async def lines(self, quiet_s: float) -> AsyncIterator[dict[str, Any]]:
        """The JSON lines it prints. Raises `ChildError` when it prints nothing for `quiet_s` seconds, or fails."""
        assert self.process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(quiet_s):
                    line = await self.process.stdout.readline()
            except TimeoutError:
                raise self.failure(f"silent for {quiet_s:.0f} s") from None
            if not line:
                if code := await self.process.wait():
                    raise self.failure(f"ended with {code}")
                return
            if line.startswith(b"{"):
                yield orjson.loads(line)

    async def finished(self, seconds: float) -> None:
        """Wait for its own end. Raises `ChildError` when it fails or takes longer."""
        try:
            async with asyncio.timeout(seconds):
                code = await self.process.wait()
        except TimeoutError:
            await self.kill()
            raise self.failure(f"not finished after {seconds:.0f} s") from None
        if code:
            raise self.failure(f"ended with {code}")

    async def stop(self, seconds: float = STOP_S) -> None:
        """SIGTERM; what is left of its tree after `seconds` is killed."""
        if self.process.returncode is not None:
            return
        members = tree([self.pid])
        self.process.terminate()
        drain = asyncio.create_task(self._drain())
        try:
            async with asyncio.timeout(seconds):
                await self.process.wait()
        except TimeoutError:
            print(f"  {self.name} did not stop within {seconds:.0f} s: killed", file=sys.stderr)
        finally:
            drain.cancel()
        await self._kill(members)

    async def _drain(self) -> None:
        """Read on while it stops, lest a full pipe hold it."""
        while self.process.stdout is not None and await self.process.stdout.read(65536):
            continue

    async def kill(self) -> None:
        """SIGKILL for the whole tree."""
        await self._kill(tree([self.pid]))

    async def _kill(self, members: list[psutil.Process]) -> None:
        for member in members:
            try:
                member.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        await self.process.wait()


async def run(
    name: str, arguments: Iterable[str], environ: Mapping[str, str], logs: Path, seconds: float,
    program: Iterable[str] = (sys.executable, "-m"),
) -> None:  # fmt: skip
    """Run a command to its end. Raises `ChildError` when it fails."""
    child = await Child.start(name, arguments, environ, logs, program=program)
    await child.finished(seconds)
