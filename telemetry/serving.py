"""Where a process shows its metrics and its health: an address of its own, apart from everything public."""

from aiohttp import web

from config import Settings


class PortTaken(Exception):
    """A process of ours can't listen at its address; its text says why, and the variable to change."""


async def serve(app: web.Application, settings: Settings) -> web.AppRunner:
    """`app` at the metrics' address, until the runner's `cleanup`. Raises PortTaken."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    host, port = settings.metrics_host, settings.metrics_port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise PortTaken(
            f"metrics and health can't be served on {host}:{port}: {(error.strerror or str(error)).lower()}; "
            "set another YEOUL_METRICS_PORT (0: none) or YEOUL_METRICS_HOST"
        ) from None
    return runner
