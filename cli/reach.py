"""Whether somebody answers at the addresses that the environment names: asked before anything waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from cli.connection import NEEDS
from embedded.errors import EmbeddedError

TIMEOUT_S = 5.0
NAMES = {"kafka": "Kafka", "postgres": "PostgreSQL", "redis": "Redis", "mail": "The mail server"}
_PORTS = {"postgres": 5432, "redis": 6379, "smtp": 587, "smtps": 465}

Place = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


class Unreachable(EmbeddedError):
    """A server that the environment names does not answer."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{NAMES[name]} does not answer at the address that {NEEDS[name]} names ({reason}). Start that server, or"
            f" correct the address; with {NEEDS[name]} unset, ./yeoul up starts one of its own"
        )


async def unreachable(environ: Mapping[str, str]) -> list[Unreachable]:
    """One for each server that `environ` names and that nobody answers for. Says nothing of logins."""
    named = [name for name, variable in NEEDS.items() if environ.get(variable)]
    reasons = await asyncio.gather(*(reason(name, environ[NEEDS[name]]) for name in named))
    return [Unreachable(name, why) for name, why in zip(named, reasons, strict=True) if why]


def places(name: str, url: str) -> list[Place]:
    """Where the servers of an address are; any of them will do."""
    if name == "kafka":
        pairs = [server.rpartition(":") for server in url.split(",")]
        return [(host.strip("[]"), int(port)) for host, _, port in pairs]
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return [unquote(parts.path)]
    named = parse_qs(parts.query)
    port = parts.port or int(named.get("port", ["0"])[0]) or _PORTS[parts.scheme if name == "mail" else name]
    host = parts.hostname or named.get("host", [""])[0]
    return [f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)]


async def reason(name: str, url: str) -> str:
    """Why nobody answers at an address; empty when somebody does."""
    reasons = [await _refusal(place) for place in places(name, url)]
    return "" if "" in reasons else "; ".join(reasons)


async def _refusal(place: Place) -> str:
    shown = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if isinstance(place, str):
                _, writer = await asyncio.open_unix_connection(place)
            else:
                _, writer = await asyncio.open_connection(*place)
    except TimeoutError:
        return f"{shown}: no answer within {TIMEOUT_S:.0f} s"
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError) or "Multiple exceptions" in str(error)
        return f"{shown}: {'nobody listens there' if refused else error.strerror or error}"
    writer.close()
    return ""
