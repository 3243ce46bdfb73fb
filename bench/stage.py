"""The stage of one bench run: the embedded servers in a folder of their own, thrown away at the end."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg

import config
from bench.figures import Options
from bench.processes import cpu_between, cpu_seconds
from embedded.stack import Stack


@dataclass
class Stage:
    """The servers, and what every figure needs of them."""

    options: Options
    environ: dict[str, str]
    """The variables that lead a process of Yeoul to these servers."""
    logs: Path
    stack: Stack
    cache_dir: Path
    """Where what is made once for this machine is kept."""
    began: float = field(default_factory=monotonic)

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return self.environ["YEOUL_KAFKA_URL"]

    @property
    def postgres(self) -> str:
        """The server, and the database Yeoul uses."""
        return self.environ["YEOUL_POSTGRES_URL"]

    @property
    def server_pids(self) -> list[int]:
        """Kafka, PostgreSQL and Valkey."""
        return list(self.stack.pids.values())

    def say(self, text: str) -> None:
        """One line of progress, with the seconds since the start."""
        _say(f"{monotonic() - self.began:6.0f} s  {text}")

    def costs(self, pids: list[int]) -> "Costs":
        """CPU seconds of the servers and the trees of `pids`, from now on."""
        return Costs([*self.server_pids, *pids])

    async def database(self, name: str) -> str:
        """Create a database on the same server, empty; returns its URL."""
        connection = await asyncpg.connect(self.postgres)
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        address, mark, query = self.postgres.partition("?")
        return f"{address.rsplit('/', 1)[0]}/{name}{mark}{query}"

    async def durability(self) -> str:
        """What the server promises at a commit; raises `SystemExit` when a commit may be lost."""
        connection = await asyncpg.connect(self.postgres)
        try:
            names = ("synchronous_commit", "fsync", "full_page_writes")
            found = {name: await connection.fetchval(f"SHOW {name}") for name in names}
        finally:
            await connection.close()
        if found["synchronous_commit"] != "on":
            raise SystemExit(f"synchronous_commit is {found['synchronous_commit']}: the figures would mean nothing")
        return " ".join(f"{name}={value}" for name, value in found.items())


class Costs:
    """CPU seconds of some process trees since it was made."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.before = cpu_seconds(pids)

    def seconds(self) -> float:
        """Used so far."""
        return cpu_between(self.before, cpu_seconds(self.pids))


def _environ() -> dict[str, str]:
    """This process's environment without our own variables: the bench measures its own servers only."""
    return {name: value for name, value in config.process_environ().items() if not name.startswith("YEOUL_")}


def _cache_dir() -> Path:
    environ = config.process_environ()
    return config.load({name: environ[name] for name in ("YEOUL_CACHE_DIR",) if name in environ}).cache_dir.expanduser()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[Stage]:
    """Start the servers in a temporary folder; it is removed at the end, and kept after an error."""
    folder = Path(tempfile.mkdtemp(prefix="yeoul-bench-"))
    logs = folder / "bench"
    logs.mkdir()
    try:
        cache_dir = _cache_dir()
        async with Stack(folder / "state", cache_dir, _environ(), say=_say) as stack:
            stage = Stage(options, dict(stack.settings_environ), logs, stack, cache_dir)
            stage.say(f"the servers are up: {os.cpu_count()} cores, {await stage.durability()}")
            yield stage
    except (Exception, SystemExit):
        _say(f"logs are kept in {folder}")
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
