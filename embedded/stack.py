"""Kafka, PostgreSQL, Valkey and the mail catcher together, as `up` and the tests use them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import config
from embedded.errors import EmbeddedError
from embedded.kafka import Kafka
from embedded.mail import Mail
from embedded.parts import Say
from embedded.postgres import Postgres
from embedded.processes import end_left_over
from embedded.state import State
from embedded.supervision import Runner
from embedded.training import train
from embedded.valkey import Valkey

PARTS = ("kafka", "postgres", "valkey", "mail")
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "JAVA_TOOL_OPTIONS")
"""What the servers' processes see of our environment."""


class Stack:
    """The servers of one state folder.

    An asynchronous context manager: inside it they accept work; leaving it stops them and keeps their data.
    `settings_environ` holds the variables that reach them, and this folder's secrets. Ports, and so addresses, stay
    the same when a part, or all, are started again.
    """

    def __init__(
        self,
        state_dir: Path,
        cache_dir: Path = Path("~/.cache/yeoul"),
        environ: Mapping[str, str] | None = None,
        parts: Collection[str] = PARTS,
        say: Say = lambda line: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`parts`: the servers to run. `environ`: this process's, looked up when None. `say` takes lines for people."""
        self.state = State(state_dir)
        self.settings_environ: dict[str, str] = {}
        self.runners: dict[str, Runner] = {}
        self.names = [name for name in PARTS if name in parts]
        self._cache_dir = cache_dir.expanduser()
        ours = config.process_environ() if environ is None else environ
        self._environ = {name: ours[name] for name in INHERITED if name in ours}
        self._say = say
        self._changed = changed

    async def __aenter__(self) -> Self:
        self.take()
        try:
            await self.start_all()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def take(self) -> None:
        """Takes the state folder for this process. Raises `AlreadyRunning`, `DiskFull`, `EmbeddedError`."""
        if sys.platform not in ("linux", "darwin"):
            raise EmbeddedError(
                f"The embedded servers do not run on {sys.platform}. Use the containers: docker compose up"
            )
        self.state.take()

    async def clean(self) -> None:
        """Ends what an earlier run left behind, and says so."""
        left = await end_left_over(self.state)
        if left:
            self._say(f"An earlier run ended without cleaning up; stopped what it left: {', '.join(left)}")

    async def start_all(self) -> None:
        """Ends what an earlier run left behind, reserves ports, and starts every part side by side.

        Raises the first `EmbeddedError`, after the other starts have ended too.
        """
        await self.clean()
        secrets = self.state.secrets()
        self.settings_environ |= {name: value for name, value in secrets.items() if name.startswith("YEOUL_")}
        self.settings_environ["YEOUL_STATE_DIR"] = str(self.state.folder)
        for name in self.names:
            if name == "kafka":
                kafka = Kafka(self.state, self._cache_dir, self._environ)
                kafka.reserve()
                self.add(Runner(kafka, self.state, self._say, self._changed))
                self.settings_environ["YEOUL_KAFKA_URL"] = kafka.url
            elif name == "postgres":
                postgres = Postgres(self.state, secrets["postgres"], self._environ)
                self.add(Runner(postgres, self.state, self._say, self._changed))
                self.settings_environ["YEOUL_POSTGRES_URL"] = postgres.url()
            elif name == "mail":
                mail = Mail(self.state, self._environ)
                mail.reserve()
                self.add(Runner(mail, self.state, self._say, self._changed))
                self.settings_environ["YEOUL_SMTP_URL"] = mail.url
            else:
                valkey = Valkey(self.state, secrets["valkey"], self._environ)
                valkey.reserve()
                self.add(Runner(valkey, self.state, self._say, self._changed))
                self.settings_environ["YEOUL_REDIS_URL"] = valkey.url()
        if "kafka" in self.runners:
            await train(self._cache_dir, self._environ, self._say)
        await self.start_these(list(self.runners))

    def add(self, runner: Runner) -> None:
        """Takes another part into the stack, after those it needs: `close` stops in reverse order."""
        self.runners[runner.part.name] = runner

    async def start_these(self, names: Collection[str]) -> None:
        """Starts some parts side by side. Raises the first failure, when all have ended their attempt."""
        tasks = [asyncio.create_task(self.runners[name].start()) for name in names]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each part that runs."""
        return {name: runner.pid for name, runner in self.runners.items() if runner.pid is not None}

    async def start(self, name: str) -> None:
        """Starts one part again, at the same address, and returns when it accepts work."""
        await self.runners[name].start()

    async def stop(self, name: str) -> None:
        """Stops one part in good order."""
        await self.runners[name].stop()

    async def kill(self, name: str) -> None:
        """Ends one part as a crash would, and leaves it so until `start`."""
        await self.runners[name].kill()

    async def keep(self) -> None:
        """Watches every part; returns when all were stopped. Raises `PartFailed` when one cannot be kept alive."""
        async with asyncio.TaskGroup() as group:
            for runner in self.runners.values():
                group.create_task(runner.keep())

    async def close(self) -> None:
        """Stops every part, last added first (the servers side by side), and gives the folder back."""
        ours = [name for name in reversed(self.runners) if name not in PARTS]
        for name in ours:
            await self.runners[name].stop()
        await asyncio.gather(*(self.runners[name].stop() for name in self.runners if name in PARTS))
        self.state.release()
