"""The parent of the front's processes.

It starts them, restarts one that dies, hands signals on, and serves the sum of their metrics with its own health. It
serves no requests of clients, and imports nothing of what does: it starts in a third of the time, in half the memory.

All children listen on one port (SO_REUSEPORT): the kernel spreads new connections over them.
"""

import asyncio
import errno
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest, multiprocess
from prometheus_client.registry import Collector

from config import Settings
from config.metrics import load
from telemetry import logs, metrics, reports, serving
from telemetry.serving import PortTaken
from web.child import CUT_S, DRAIN_S

log = logging.getLogger("yeoul.web.parent")

STEADY_S = 10.0
"""A child that lived this long is started again at once; one that did not, after a pause that grows."""
LONGEST_PAUSE_S = 5.0


class _OfChildren(Collector):
    """The sum of the children's metrics, without the one that only their parent counts."""

    def __init__(self, metrics_dir: Path) -> None:
        self._metrics_dir = metrics_dir

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        own = {metric.name for metric in metrics.WEB_RESTARTS.collect()}
        # A child makes a file and gives it its size afterwards: one that died in between leaves it empty for ever, and
        # the library's own collector reads all files or none (prometheus/client_python#1199).
        files = [str(file) for file in self._metrics_dir.glob("*.db") if file.stat().st_size]
        found = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return (metric for metric in found if metric.name not in own)


class Parent:
    """The children of one front."""

    def __init__(self, settings: Settings, metrics_dir: Path) -> None:
        self._settings = settings
        self._metrics_dir = str(metrics_dir)
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Tells every child to finish; `run` returns when they have."""
        self._stopping.set()
        for child in self._children.values():
            if child.returncode is None:
                child.terminate()

    async def run(self) -> int:
        """Keeps `web_processes` children running until `stop`."""
        await asyncio.gather(*(self._keep(slot) for slot in range(self._settings.web_processes)))
        return 0

    async def _keep(self, slot: int) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.1
        while not self._stopping.is_set():
            started = loop.time()
            child = self._children[slot] = await self._start()
            code = await self._ended(child)
            multiprocess.mark_process_dead(child.pid, self._metrics_dir)  # type: ignore[no-untyped-call]
            if self._stopping.is_set():
                return
            metrics.WEB_RESTARTS.inc()
            pause = 0.1 if loop.time() - started > STEADY_S else min(pause * 2, LONGEST_PAUSE_S)
            log.error("front process %s ended with %s; starting another in %.1f s", child.pid, code, pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _start(self) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.child", stdin=asyncio.subprocess.PIPE, cwd=Path(__file__).parent.parent
        )
        assert child.stdin is not None
        told = {"settings": self._settings.environ(), "metrics_dir": self._metrics_dir}
        child.stdin.write(json.dumps(told).encode() + b"\n")
        if self._stopping.is_set():
            child.terminate()
        return child

    async def _ended(self, child: asyncio.subprocess.Process) -> int:
        """Waits for the child's end, and once it is told to stop, no longer than it may take to drain."""
        ended = asyncio.ensure_future(child.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            done, _ = await asyncio.wait((ended,), timeout=DRAIN_S + CUT_S + 5.0)
            if not done:
                log.error("front process %s did not stop in time and is killed", child.pid)
                child.kill()
        return await ended


def run(settings: Settings) -> int:
    """Runs `settings.web_processes` fronts on one port until SIGTERM or SIGINT. Returns 0, or 1 if a port is taken.

    Raises SettingsError for a wrong file of metrics.
    """
    load(settings.metrics_file)  # a wrong one ends the start here, before anything runs
    logs.configure(settings, "web")
    reports.configure(settings, "web")
    try:
        return asyncio.run(_run(settings))
    except PortTaken as error:
        log.error("%s", error)
        return 1
    finally:
        reports.close()


async def _run(settings: Settings) -> int:
    settings = msgspec.structs.replace(settings, web_port=_port(settings.web_host, settings.web_port))
    metrics_dir = settings.state_dir / "metrics" / f"web-{os.getpid()}"
    shutil.rmtree(metrics_dir, ignore_errors=True)
    metrics_dir.mkdir(parents=True)
    parent = Parent(settings, metrics_dir.resolve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parent.stop)
    runner = None
    try:
        if settings.metrics_port:
            runner = await _serve_metrics(settings, metrics_dir)
        return await parent.run()
    finally:
        if runner is not None:
            await runner.cleanup()
        shutil.rmtree(metrics_dir, ignore_errors=True)


def _port(host: str, port: int) -> int:
    """The port that all children are to listen on: for 0 one that is free, chosen here for them to share it.

    Raises PortTaken if somebody listens there (with SO_REUSEPORT the children would share the port unnoticed), or if
    the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
                raise PortTaken(f"this machine has no address {host} (YEOUL_WEB_HOST)") from None
            raise PortTaken(f"the front can't listen on {host}:{port}: {error.strerror}") from None
        found: int = probe.getsockname()[1]
        return found


async def _serve_metrics(settings: Settings, metrics_dir: Path) -> web.AppRunner:
    async def show(_: web.Request) -> web.Response:
        registry = CollectorRegistry()
        registry.register(_OfChildren(metrics_dir))
        registry.register(metrics.WEB_RESTARTS)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def live(_: web.Request) -> web.Response:
        return web.Response(body=b'{"live":true}', content_type="application/json")

    async def ready(request: web.Request) -> web.Response:
        host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
        try:
            async with request.app[_SESSION].get(f"http://{host}:{settings.web_port}/readyz") as answer:
                return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")
        except (aiohttp.ClientError, TimeoutError) as error:
            body = json.dumps({"ready": False, "front": str(error) or type(error).__name__})
            return web.Response(text=body, status=503, content_type="application/json")

    async def session(app: web.Application):  # type: ignore[no-untyped-def]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as app[_SESSION]:
            yield

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.add_routes([web.get("/metrics", show), web.get("/livez", live), web.get("/readyz", ready)])
    return await serving.serve(app, settings)


_SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)
