"""Who is on the other side: the caller's address, which only proxies that are configured may tell."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

from config import Settings
from config.shields import UNIX, Network

Address = IPv4Address | IPv6Address
NOWHERE = "unix"
"""The address of a peer that has none: it came through a unix socket."""
MOST_HOPS = 32
"""How many entries of a forwarding header are looked at, from the right."""
_KNOWN = 8192


class Clients:
    """Addresses of callers, as the settings let them be told."""

    def __init__(self, settings: Settings) -> None:
        self._networks = [network for network in settings.trusted_proxies if not isinstance(network, str)]
        self._unix = UNIX in settings.trusted_proxies
        self._header = settings.forwarded_header
        self._admins = settings.admin_networks
        self._any = bool(settings.trusted_proxies)
        self.trusts = lru_cache(_KNOWN)(self._trusts)
        self._admin = lru_cache(_KNOWN)(self._is_admin)

    def address(self, request: web.BaseRequest) -> str:
        """The caller's address in its shortest spelling, `unix` for a unix socket without a proxy's word."""
        peer = request._transport_peername  # what `remote` makes a text of, without the mapping around it
        host = peer[0] if peer.__class__ is tuple and peer else ""
        if not self._any or not self.trusts(host):
            return plain(host)
        return self._told(request, plain(host))

    def may_administer(self, request: web.BaseRequest) -> bool:
        """False for who calls admin endpoints from outside of the networks that they are open to."""
        return not self._admins or self._admin(self.address(request))

    def _told(self, request: web.BaseRequest, peer: str) -> str:
        """From the right: over each proxy of ours, to the first address that is none. What is no address ends it."""
        found = peer
        for entry in reversed(_entries(self._header, request.headers.getall(self._header, ()))):
            address = _parsed(entry)
            if address is None:
                break
            found = str(address)
            if not self._within(address, self._networks):
                break
        return found

    def _trusts(self, host: str) -> bool:
        address = _parsed(host)
        return self._unix if address is None else self._within(address, self._networks)

    def _is_admin(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and self._within(address, self._admins)

    @staticmethod
    def _within(address: Address, among: "tuple[Network, ...] | list[Network]") -> bool:
        return any(address.version == network.version and address in network for network in among)


@lru_cache(_KNOWN)
def plain(host: str) -> str:
    """An address in its shortest spelling; an IPv4 address mapped into IPv6 is that IPv4 address."""
    address = _parsed(host)
    return NOWHERE if address is None else str(address)


@lru_cache(_KNOWN)
def counted(address: str) -> str:
    """Under what the deeds of an address are counted: an IPv6 one is anybody's who has its /64."""
    return _network(address, 32, 64)


def shortened(address: str) -> str:
    """An address as logs may show it: its network, /24 or /48, which is no single person."""
    return _network(address, 24, 48)


def _network(text: str, four: int, six: int) -> str:
    address = _parsed(text)
    if address is None:
        return text
    made: IPv4Network | IPv6Network = ip_network((address, four if address.version == 4 else six), strict=False)
    return str(made.network_address) if made.prefixlen == made.max_prefixlen else str(made)


def _parsed(text: str) -> Address | None:
    """The address, without a zone; None for what is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _entries(header: str, lines: "list[str] | tuple[str, ...]") -> list[str]:
    """The addresses that a forwarding header names, in its order, without ports; at most MOST_HOPS, the last ones.

    `Forwarded` is RFC 7239. An entry without `for=` stands for nobody, and so does a name in place of an address.
    """
    parts = [part.strip() for line in lines for part in line.split(",")][-MOST_HOPS:]
    if header == "forwarded":
        parts = [_for(part) for part in parts]
    return [_without_port(part) for part in parts]


def _for(element: str) -> str:
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return ""


def _without_port(text: str) -> str:
    if text.startswith("["):
        inner, bracket, port = text[1:].partition("]")
        return inner if bracket and (not port or (port[0] == ":" and port[1:].isdigit())) else ""
    host, colon, port = text.partition(":")
    return host if colon and port.isdigit() and port.isascii() and "." in host else text
