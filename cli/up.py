"""`up`: the servers, the tables, the topics, the workers and the front, in this order; stopped in the opposite one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import signal
import sys
import time
from pathlib import Path
from typing import cast

import psutil

import config
from cli.connection import NEEDS, OTHER_PORT, kept
from cli.detach import LOG, detach, other_settings
from cli.failures import sentence
from cli.follow import follow
from cli.programs import Program, address, finish, reachable
from cli.reach import unreachable
from config import Settings
from config.metrics import load
from embedded.errors import AlreadyRunning, NoListening, PartFailed, PortBusy
from embedded.processes import bound_log
from embedded.stack import Stack
from embedded.state import free_port, obstacle, owner_of
from embedded.supervision import BOUND_LOGS_EVERY_S, Life, Runner

HELP = "start everything and say where it is; Ctrl-C stops it in order"
ADMIN = "admin@example.com"
SERVERS = {"kafka": "kafka", "postgres": "postgres", "redis": "valkey", "mail": "mail"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--detach", action="store_true", help="return when it is ready, and leave it running")
    # How --detach starts the process that stays.
    parser.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Returns when everything was stopped, or (`--detach`) is ready."""
    settings = config.load(config.process_environ())
    load(settings.metrics_file)  # a wrong one ends the start before any server is started
    if options.detach:
        return detach(settings.state_dir)
    return asyncio.run(Up(settings, options.detached).run())


class Up:
    """One run of the whole system."""

    def __init__(self, settings: Settings, detached: bool = False) -> None:
        """`settings`: what the environment says; servers it names are not started. `detached`: logs/up.log has it."""
        self._begun = time.monotonic()
        self._detached = detached
        self._web_port = settings.web_port
        self._given = settings
        self._environ = config.process_environ()
        self._ready = False
        self._fields: dict[str, object] = {}
        parts = [part for name, part in SERVERS.items() if not self._environ.get(NEEDS[name])]
        self._stack = Stack(settings.state_dir, settings.cache_dir, self._environ, parts, self._say, self._record)

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s  {line}", flush=True)

    async def run(self) -> int:
        """Starts, watches and stops everything; the exit code. Raises `EmbeddedError`."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stopping.set)
        try:
            self._stack.take()
        except AlreadyRunning as running:
            print(f"{running}{other_settings(self._stack.state)}")
            return 0
        code = 0
        work = asyncio.create_task(self._work())
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([work, asked], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._say("stopping")
            work.cancel()
            try:
                await work
            except asyncio.CancelledError:
                pass  # by ourselves, just above
            except BaseExceptionGroup as group:
                # Watching is done side by side: the first reason is the one to tell.
                raise _first(group) from None
        except Exception as error:
            said = sentence(error)
            if said is None:
                raise
            # Before everything is stopped, which takes a while and is only the consequence.
            print(f"yeoul: {said}", file=sys.stderr, flush=True)
            code = 1
        finally:
            asked.cancel()
            self._ready = False
            await self._stack.close()
            self._stack.state.remove("run")
            self._say("stopped; the data is kept for the next ./yeoul up")
        return code

    async def _work(self) -> None:
        """Starts everything and then watches, until cancelled. Raises `EmbeddedError`."""
        await self._look_first()
        self._say("starting " + (", ".join(self._stack.names) or "no servers: the environment names all of them"))
        environ = {name: value for name, value in self._environ.items() if not name.startswith("YEOUL_")}
        state = self._stack.state
        # Which processes there are needs no server: asked while they start.
        asking = asyncio.create_task(finish("groups", ["worker", "--list"], environ, state))
        try:
            await self._stack.start_all()
        except BaseException:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            raise
        groups = json.loads(await asking)
        settings = self._settings()
        environ |= settings.environ()
        self._say("servers accept work; migrating tables, checking topics")
        async with asyncio.TaskGroup() as group:
            migrated = group.create_task(finish("migrate", ["migrate"], environ, state))
            group.create_task(finish("topics", ["topics"], environ, state))
        self._say(f"tables: {migrated.result()}")
        metrics_ports = {
            # Each its own: what the environment names is the front's.
            "web": settings.metrics_port or state.port("front metrics"),
            **{f"worker-{name}": state.port(f"{name} metrics") for name in groups},
        }
        own = {name: environ | {"YEOUL_METRICS_PORT": str(port)} for name, port in metrics_ports.items()}
        front = Program("web", ["web"], own["web"], reachable(settings.web_host), settings.web_port)
        metrics_host = reachable(settings.metrics_host)
        programs = [front]
        for which, names in groups.items():
            name = f"worker-{which}"
            programs.insert(0, Program(name, ["worker", *names], own[name], metrics_host, metrics_ports[name]))
        for program in programs:
            self._stack.add(Runner(program, state, self._say, self._record))
        self._fields = {
            "pid": psutil.Process().pid,
            "front": front.url,
            "kafka": settings.kafka_url,
            "postgres": settings.postgres_url,
            "redis": settings.redis_url,
            "health": {program.name: program.health for program in programs},
            "metrics": {name: f"{address(metrics_host, port)}/metrics" for name, port in metrics_ports.items()},
            # The keys stay in secrets.json; the port of metrics is each process's own.
            "environ": {
                variable.name: environ[variable.name]
                for variable in config.VARIABLES
                if variable.name in environ and kept(variable.name)
            },
        }
        self._say("starting " + ", ".join(program.name for program in programs))
        await self._stack.start_these([program.name for program in programs])
        try:
            token = await finish("token", ["token", ADMIN, "--role", "admin"], environ, state)
        except PartFailed as error:
            # Everything runs, and is what its mend needs: an account that is disabled, or no admin any more.
            self._say(f"no token for you: {error}")
            token = ""
        else:
            (state.logs / "token.log").unlink(missing_ok=True)
        self._ready = True
        self._tell(settings, token)
        self._record()
        async with asyncio.TaskGroup() as watching:
            watching.create_task(self._stack.keep())
            watching.create_task(_bounded(state.logs / LOG))
            for program in programs:
                watching.create_task(follow(state.logs / f"{program.name}.log", program.name))

    async def _look_first(self) -> None:
        """What would end the start only after the servers are up is looked for before. Raises `EmbeddedError`."""
        settings = self._given
        await self._stack.clean()
        for host, variable in ((settings.web_host, "YEOUL_WEB_HOST"), (settings.metrics_host, "YEOUL_METRICS_HOST")):
            error = obstacle(0, host)
            if error is not None:
                raise NoListening(host, 0, variable, error)
        away = await unreachable(self._environ)
        if away:
            raise away[0]
        port = settings.web_port
        if not self._environ.get("YEOUL_WEB_PORT"):
            self._web_port = self._stack.state.port("front", port, OTHER_PORT)
        elif port == 0:
            self._web_port = free_port(set(self._stack.state.read("ports").values()))
        else:
            error = obstacle(port, settings.web_host)
            if error is not None and error.errno == errno.EADDRINUSE:
                raise PortBusy("the front", port, owner_of(port), OTHER_PORT)
            if error is not None:
                raise NoListening(settings.web_host, port, "YEOUL_WEB_HOST", error)

    def _settings(self) -> Settings:
        """The settings of our own processes: what the environment says, over the stack's addresses and secrets."""
        given = {name: value for name, value in self._environ.items() if value}
        environ = self._stack.settings_environ | given
        environ["YEOUL_WEB_PORT"] = str(self._web_port)
        environ["YEOUL_STATE_DIR"] = str(self._stack.state.folder)
        return config.load(environ)

    def _record(self) -> None:
        """Writes run.json, from which the other commands know what runs."""
        processes = [
            {"name": name, "pid": runner.pid, "state": str(runner.life)} for name, runner in self._stack.runners.items()
        ]
        ready = self._ready and all(runner.life is Life.READY for runner in self._stack.runners.values())
        self._stack.state.write("run", {"ready": ready, **self._fields, "processes": processes})

    def _tell(self, settings: Settings, token: str) -> None:
        """The lines for people: where it is, and what to paste."""
        url = self._fields["front"]
        places = cast("dict[str, str]", self._fields["metrics"])
        scraped = "\n            ".join(f"{address} ({name})" for name, address in places.items())
        stops = "./yeoul down stops it." if self._detached or not sys.stdout.isatty() else "Ctrl-C stops it."
        warnings = f"Warnings go to {settings.state_dir / 'logs' / LOG}" if self._detached else "Warnings follow here."
        self._say(f"ready; {_resident(self._stack)} MB resident in all\n")
        print(
            f"  front     {url}/api/v1   (health: {url}/readyz)\n"
            f"  live      {url}/live{_fragment(settings)}   (the tables of the metrics; paste the token)\n"
            f"  docs      {url}/docs   (every endpoint, with requests to paste)\n"
            f"  kafka     {settings.kafka_url}\n"
            f"  metrics   {scraped}\n"
            f"  mail      {_mail(settings, self._stack)}\n"
            f"  data      {settings.state_dir}, logs in {settings.state_dir / 'logs'}\n"
            f"  token     {_token(token)}\n\n"
            "  Create something (and watch it in a second terminal: ./yeoul tail):\n\n"
            f"curl -i {url}/api/v1/resources -H 'Content-Type: application/json' \\\n"
            f"  -H 'Authorization: Bearer {token or '$TOKEN'}' \\\n"
            '  -d \'{"kind":"note","title":"hello"}\'\n\n'
            f"  {stops} {warnings}\n",
            flush=True,
        )


def _token(token: str) -> str:
    """Whose it is, and the token; or how to get one."""
    if not token:
        return "none, see above; of another person, made if need be: ./yeoul token EMAIL --role admin"
    return f"of {ADMIN}, an admin, for 15 minutes; another: ./yeoul token {ADMIN} --role admin\n\n{token}"


def _fragment(settings: Settings) -> str:
    """What the page of live tables opens with: the metric that moves with everything, where there is one."""
    everything = next((metric.name for metric in load(settings.metrics_file) if "*" in metric.events), None)
    return "" if everything is None else f"#metric={everything}"


def _mail(settings: Settings, stack: Stack) -> str:
    """Where mails go."""
    if "mail" in stack.runners:
        return "is caught and not sent: ./yeoul mail"
    return f"is sent by the server of YEOUL_SMTP_URL, from {settings.mail_from}"


async def _bounded(log: Path) -> None:
    """Keeps a log from growing for ever."""
    while True:
        await asyncio.sleep(BOUND_LOGS_EVERY_S)
        bound_log(log)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _resident(stack: Stack) -> int:
    """MB of memory that our processes hold, what they share counted once (Linux), else about."""
    total = 0
    for pid in (psutil.Process().pid, *stack.pids.values()):
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            family = [root] if root == psutil.Process() else [root, *root.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", memory.rss)
    return total >> 20
