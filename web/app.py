"""The application of one process of the front (web/child.py), and its parts."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from aiohttp import web, web_response

import stores
from config import Settings
from security.fields import Sealer
from security.passwords import Passwords
from security.tokens import Tokens
from streams.publish import Commands
from web import export, health
from web.access import AccessLog
from web.clients import Clients
from web.cors import Cors
from web.crowd import CROWD, Crowd
from web.keyring import Keyring
from web.middlewares import around
from web.parts import ACCESS, CLIENTS, CORS, DOOR, PARTS, CommandPath, Door, Parts, ReadStores
from web.problems import Presenters
from web.quotas import Quotas
from web.routes import routes
from web.watchers import Hub

# What aiohttp says of itself in every answer, errors below the application included: a name, and no version.
web_response.SERVER_SOFTWARE = "yeoul"  # type: ignore[attr-defined]  # not exported, but read at each answer

Opener = Callable[[Settings], AbstractAsyncContextManager[Parts]]


def parts_of(settings: Settings, commands: CommandPath, opened: ReadStores) -> Parts:
    """The parts for `settings` around an open command path and open stores."""
    quotas = Quotas(settings, opened.limits, Clients(settings))
    return Parts(
        settings=settings,
        commands=commands,
        stores=opened,
        tokens=Tokens(settings.token_keys, settings.environment),
        passwords=Passwords(),
        sealer=Sealer(*settings.sealing_keys),
        presenters=Presenters(https=settings.environment != "local"),
        live=Hub(opened.watching),
        quotas=quotas,
        keyring=Keyring(opened.api_keys, opened.revoked, quotas, settings.environment),
    )


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """The real parts: Kafka, PostgreSQL and Redis need not be there yet."""
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(stores.open(settings))
        await stack.enter_async_context(opened.revoked.following())
        commands = await stack.enter_async_context(Commands.open(settings, opened))
        parts = parts_of(settings, commands, opened)
        stack.callback(parts.passwords.close)
        stack.push_async_callback(parts.live.close)
        stack.push_async_callback(parts.quotas.close)
        stack.push_async_callback(parts.keyring.close)
        yield parts


def create(settings: Settings, opener: Opener = open_parts) -> web.Application:
    """The application of one process. `opener` makes its parts when it starts, and closes them when it ends."""
    app = web.Application(middlewares=[around], client_max_size=settings.body_limit)
    app.add_routes(routes())
    app[health.WERE_READY] = set()
    app[health.SHOWN] = {}
    app[DOOR] = Door()
    app[ACCESS] = AccessLog()
    app[CLIENTS] = clients = Clients(settings)
    app[CORS] = Cors(settings.cors_origins)
    app[CROWD] = Crowd(settings, clients)
    app[export.ROOM] = export.Room()

    async def parts(app: web.Application) -> AsyncIterator[None]:
        async with opener(settings) as opened:
            app[PARTS] = opened
            app[DOOR].at_close.append(opened.live.stop)
            yield
        app[CROWD].close()
        app[ACCESS].flush()

    async def end_streams(app: web.Application) -> None:
        app[PARTS].live.stop()

    app.cleanup_ctx.append(parts)
    app.on_shutdown.append(end_streams)
    return app
