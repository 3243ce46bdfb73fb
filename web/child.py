"""One process of the front, started by web/parent.py as `python -m web.child`.

Its settings come as one line of JSON on standard input, which stays open while the parent lives: its end means that
the parent is gone, and the process ends as if told to. Ends with 0 after SIGTERM, SIGINT or the parent's end, when
running requests are done.
"""

import asyncio
import json
import logging
import os
import signal
import sys

from config import Settings, load

DRAIN_S = 20.0
"""How long running requests may take to finish after the door was closed."""

log = logging.getLogger("yeoul.web")


async def serve(settings: Settings) -> None:
    """Serves until told to stop; then closes the door, finishes what runs (at most DRAIN_S), and goes."""
    from aiohttp import web

    from web.app import create

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = sys.stdin.fileno()

    def gone() -> None:
        loop.remove_reader(parent)
        stop.set()

    loop.add_reader(parent, gone)
    runner = web.AppRunner(create(settings), access_log=None, shutdown_timeout=DRAIN_S, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.web_host, settings.web_port, reuse_port=True, backlog=1024)
        await site.start()
        log.info("listening on %s", site.name)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """Reads what the parent says, and serves."""
    told = json.loads(_line())
    # prometheus_client decides at its import, by this variable, whether processes add up their metrics: so it is set
    # before anything imports it, and the application is imported after.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = told["metrics_dir"]
    import uvloop

    from telemetry import logs

    settings = load(told["settings"])
    logs.configure(settings, "web")
    uvloop.run(serve(settings))
    return 0


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
