"""One process of the front, started by web/parent.py as `python -m web.child`.

Its settings come as one line of JSON on standard input, which stays open while the parent lives: its end means that
the parent is gone, and the process ends as if told to. Ends with 0 after SIGTERM, SIGINT or the parent's end, when
running requests are done.
"""

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import sys

from config import Settings, load

DRAIN_S = 15.0
"""How long running requests, also those whose bodies are still on their way, may take after the door was closed."""
CUT_S = 4.0
"""How much longer what is being answered then may take."""
FILES_BESIDE = 1024
"""Open files that are no connections of clients: those of stores, channels of live tables, and the reserve."""

log = logging.getLogger("yeoul.web")


async def serve(settings: Settings) -> None:
    """Serves until told to stop; then closes the door, finishes what runs (in 20 s at most), and goes."""
    from aiohttp import web

    from web.app import create
    from web.parts import DOOR
    from web.unreadable import Runner

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = sys.stdin.fileno()

    def gone() -> None:
        loop.remove_reader(parent)
        stop.set()

    loop.add_reader(parent, gone)
    http = logging.getLogger("yeoul.web.http")
    http.addFilter(lambda record: not _callers_fault(record))
    app = create(settings)
    runner = Runner(
        app,
        access_log=None,
        logger=http,
        shutdown_timeout=CUT_S,
        handle_signals=False,
        keepalive_timeout=settings.idle_timeout_s,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.web_host, settings.web_port, reuse_port=True, backlog=1024)
        await site.start()
        # What start-up made stays: it need not be looked through again with every collection.
        gc.freeze()
        log.info("listening on %s", site.name)
        await stop.wait()
        # Nobody new comes in; who is connected gets an answer that ends the connection. aiohttp's own shutdown would
        # drop what still arrives of a body.
        await site.stop()
        await app[DOOR].close(DRAIN_S)
    finally:
        await runner.cleanup()


def _callers_fault(record: logging.LogRecord) -> bool:
    """True for what aiohttp logs, as an error with a trace, when somebody sends what is hardly HTTP."""
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.web import RequestPayloadError

    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError | RequestPayloadError)


def main() -> int:
    """Reads what the parent says, and serves."""
    gc.set_threshold(50_000, 20, 50)
    told = json.loads(_line())
    # prometheus_client decides at its import, by this variable, whether processes add up their metrics: so it is set
    # before anything imports it, and the application is imported after.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = told["metrics_dir"]
    import uvloop
    from prometheus_client import values

    from telemetry import logs, reports, tracing

    # By default each change of a metric asks the system for the process's number, in case it has forked. This one
    # does not, and its number stands in the names of its files until the parent has added them up.
    number = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # nothing there is

    settings = load(told["settings"])
    logs.configure(settings, "web")
    reports.configure(settings, "web")
    tracing.configure(settings, "web")
    settings = _with_files(settings)
    try:
        uvloop.run(serve(settings))
    finally:
        tracing.close()
        reports.close()
    return 0


def _with_files(settings: Settings) -> Settings:
    """Raises the number of files that this process may have open to what its connections need, as far as it may.

    Where the system allows less, there are fewer connections: a listener that gets no file for one can't even end it.
    """
    import msgspec

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections + FILES_BESIDE
    unlimited = hard == resource.RLIM_INFINITY
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if unlimited else min(wanted, hard), hard))
    if unlimited or hard >= wanted:
        return settings
    fewer = max(hard - FILES_BESIDE, 64)
    log.warning("the system allows %s open files; YEOUL_CONNECTIONS is %s here, ulimit -n would help", hard, fewer)
    return msgspec.structs.replace(settings, connections=fewer)


def _line() -> bytes:
    """The first line of standard input, read without a buffer, for the event loop watches what follows."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(sys.stdin.fileno(), 1)
        if not part:
            raise SystemExit("web.child is started by web.parent, which tells it the settings")
        line += part
    return line


if __name__ == "__main__":
    sys.exit(main())
