"""The settings of what stands between the front and the internet: addresses that are trusted, limits, patience."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from config.variables import Refused, Variable, one_of, seconds, shown, whole

Network = IPv4Network | IPv6Network
UNIX = "unix"
"""A peer that came through a unix socket, among the trusted proxies."""


class Limit(NamedTuple):
    """At most `quota` within any `window` of seconds; a quota of 0 is no limit."""

    quota: int
    window: int

    def __str__(self) -> str:
        return f"{self.quota}/{self.window}" if self.quota else "off"


def limit(text: str) -> Limit:
    """A parser for `requests/seconds`, or `off`."""
    if text == "off":
        return Limit(0, 1)
    quota, _, window = text.partition("/")
    if not (re.fullmatch(r"[1-9][0-9]{0,8}", quota) and re.fullmatch(r"[1-9][0-9]{0,4}", window)):
        raise Refused(f"is {shown(text)}", "requests/seconds such as 600/60, or off")
    return Limit(int(quota), int(window))


def networks(text: str) -> tuple[Network, ...]:
    """A parser for addresses and CIDRs, separated by commas."""
    found = []
    for part in filter(None, text.split(",")):
        try:
            found.append(ip_network(part.strip()))
        except ValueError as error:
            raise Refused(
                f"has {shown(part)}" + (" with bits behind its prefix" if "host bits" in str(error) else ""),
                "addresses or networks such as 10.0.0.0/8, 2001:db8::/32, separated by commas",
            ) from None
    return tuple(found)


def render_networks(value: tuple[Network, ...]) -> str:
    """The inverse of `networks`."""
    return ",".join(map(str, value))


def proxies(text: str) -> tuple[Network | str, ...]:
    """As `networks`, and the word `unix`."""
    parts = [part.strip() for part in text.split(",")]
    rest = networks(",".join(part for part in parts if part != UNIX))
    return (*rest, UNIX) if UNIX in parts else rest


def render_proxies(value: tuple[Network | str, ...]) -> str:
    """The inverse of `proxies`."""
    return ",".join(map(str, value))


def origins(text: str) -> tuple[str, ...]:
    """A parser for origins as browsers write them, separated by commas."""
    found = tuple(filter(None, (part.strip() for part in text.split(","))))
    for part in found:
        if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", part):
            raise Refused(
                f"has {shown(part)}", "origins such as https://app.example.org, in lower case, without path or wildcard"
            )
        if part.endswith((":80", ":443")) and part.startswith("https") == part.endswith(":443"):
            raise Refused(f"has {shown(part)}", "origins without the port that their scheme has anyway")
    return found


def _limit(of: str, default: str, about: str) -> Variable:
    return Variable(f"YEOUL_LIMIT_{of.upper()}", f"limit_{of}", default, f"{about}, as requests/seconds", limit)


SHIELDS: tuple[Variable, ...] = (
    Variable(
        "YEOUL_TRUSTED_PROXIES",
        "trusted_proxies",
        "",
        "Proxies whose word about the caller's address counts: CIDRs, and unix",
        proxies,
        render_proxies,
    ),
    Variable(
        "YEOUL_FORWARDED_HEADER",
        "forwarded_header",
        "x-forwarded-for",
        "The header in which they say it",
        one_of("x-forwarded-for", "forwarded"),
    ),
    Variable("YEOUL_CORS_ORIGINS", "cors_origins", "", "Origins whose pages may call the API", origins, ",".join),
    Variable(
        "YEOUL_ADMIN_NETWORKS",
        "admin_networks",
        "",
        "From where admin endpoints are there at all; empty: from everywhere",
        networks,
        render_networks,
    ),
    Variable("YEOUL_CONNECTIONS", "connections", "4096", "Connections of one front process", whole(64, 100_000)),
    Variable(
        "YEOUL_CONNECTIONS_ADDRESS",
        "connections_address",
        "256",
        "Connections of one address to one front process",
        whole(1, 100_000),
    ),
    Variable(
        "YEOUL_HEADER_TIMEOUT",
        "header_timeout_s",
        "10",
        "Seconds in which the head of a request has to come",
        seconds(1, 600),
        lambda value: f"{value:g}",
    ),
    Variable(
        "YEOUL_BODY_TIMEOUT",
        "body_timeout_s",
        "15",
        "Seconds that a body may stand still",
        seconds(1, 600),
        lambda value: f"{value:g}",
    ),
    Variable(
        "YEOUL_IDLE_TIMEOUT",
        "idle_timeout_s",
        "75",
        "Seconds that a connection may wait for its next request",
        seconds(1, 3600),
        lambda value: f"{value:g}",
    ),
    _limit("auth_address", "60/60", "Registering, logging in and the like, of one address"),
    _limit("login_address", "50/900", "Failed logins of one address, for whichever accounts"),
    _limit("login_account", "10/900", "Failed logins to one account, from wherever it has not logged in before"),
    _limit("api_key_address", "60/60", "Wrong API keys of one address"),
    _limit("read_address", "12000/60", "Reads of one address"),
    _limit("read_user", "3000/60", "Reads of one user"),
    _limit("search_address", "2400/60", "Lists and questions of one address"),
    _limit("search_user", "600/60", "Lists and questions of one user"),
    _limit("write_address", "2400/60", "Writes of one address"),
    _limit("write_user", "600/60", "Writes of one user"),
)
"""Their rows in the table of settings."""
