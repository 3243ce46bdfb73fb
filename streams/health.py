"""/livez, /readyz and /metrics of a worker, on a port apart from everything public."""

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from config import Settings, without_passwords
from streams.groups import Connections
from streams.runtime import Running
from telemetry import serving


class Health:
    """Served when the settings name a metrics port."""

    def __init__(self, settings: Settings, connections: Connections, running: list[Running]) -> None:
        self._settings = settings
        self._connections = connections
        self._running = running
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Begin to serve. Raises PortTaken."""
        if not self._settings.metrics_port:
            return
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        self._runner = await serving.serve(app, self._settings)

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        found: dict[str, str] = {
            "kafka": self._connections.broker.away or "ok",
            "postgres": await self._connections.database.ready(),
            "redis": await self._connections.redis.ready(),
            **{running.full_name: running.state() for running in self._running},
        }
        checks = {name: without_passwords(state, self._settings) for name, state in found.items()}
        # Redis is a convenience of the write path: without it answers come later, and that is all.
        ready = all(state.startswith("ok") for name, state in checks.items() if name != "redis")
        return web.Response(
            body=orjson.dumps({"ready": ready, "checks": checks}),
            status=200 if ready else 503,
            content_type="application/json",
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
