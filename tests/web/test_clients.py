"""Whose address it is: only a proxy that is configured may say, and nobody to the left of it."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

import config
from config import SettingsError
from web.clients import Clients, counted, shortened


def address(peer: Any, *lines: tuple[str, str], trusted: str = "10.0.0.0/8,fd00::/8", header: str = "") -> str:
    environ = {"YEOUL_TRUSTED_PROXIES": trusted, "YEOUL_FORWARDED_HEADER": header}
    request = make_mocked_request("GET", "/", headers=CIMultiDict(lines))
    request._transport_peername = peer
    return Clients(config.load(environ)).address(request)


XFF = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("peer", "lines", "found"),
    [
        # Nobody who is no proxy of ours has a say.
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("203.0.113.9", ["10.0.0.1, 10.0.0.2"], "203.0.113.9"),
        # From the right, over our own, to the first that is none of ours; what stands left of it is made up.
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        # Only ours: the first of them asked for itself.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        # What is no address ends it at the proxy that passed it on.
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.256"], "10.0.0.1"),
        ("10.0.0.1", ["127.1"], "10.0.0.1"),
        ("10.0.0.1", ["٨.٨.٨.٨"], "10.0.0.1"),
        # Spellings.
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0:0::1"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]x"], "10.0.0.1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["fe80::1%eth0"], "fe80::1"),
        # A long chain is looked at from its end only.
        ("10.0.0.1", [", ".join(["198.51.100.1"] + ["10.0.0.2"] * 100)], "10.0.0.2"),
    ],
)
def test_the_callers_address_behind_proxies(peer: str, lines: list[str], found: str) -> None:
    assert address((peer, 1), *((XFF, line) for line in lines)) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ('for="[2001:db8::1]:4711";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("For=6.6.6.6, FOR=198.51.100.1;host=a, for=10.0.0.7", "198.51.100.1"),
        ('for="6.6.6.6, 7.7.7.7", for=198.51.100.1', "198.51.100.1"),
        ("for=198.51.100.1, for=unknown", "10.0.0.1"),
        ("for=198.51.100.1, for=_hidden", "10.0.0.1"),
        ("for=198.51.100.1, by=10.0.0.9", "10.0.0.1"),
    ],
)
def test_the_standard_header_where_it_is_configured(line: str, found: str) -> None:
    assert address(("10.0.0.1", 1), ("Forwarded", line), (XFF, "6.6.6.6"), header="forwarded") == found


def test_the_header_that_is_not_configured_is_the_callers_own() -> None:
    assert address(("10.0.0.1", 1), ("Forwarded", "for=6.6.6.6"), (XFF, "198.51.100.1")) == "198.51.100.1"
    assert address(("10.0.0.1", 1), (XFF, "6.6.6.6"), header="forwarded") == "10.0.0.1"


@pytest.mark.parametrize("peer", ["", None, b"\0abstract"])
def test_a_unix_socket_is_trusted_when_it_is_named(peer: object) -> None:
    assert address(peer, (XFF, "198.51.100.1")) == "unix"
    assert address(peer, (XFF, "198.51.100.1"), trusted="unix") == "198.51.100.1"
    assert address(("127.0.0.1", 1), (XFF, "198.51.100.1"), trusted="unix") == "127.0.0.1"


def test_without_proxies_nobody_is_asked() -> None:
    assert address(("10.0.0.1", 1), (XFF, "198.51.100.1"), trusted="") == "10.0.0.1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("198.51.100.1", "198.51.100.2", False),
    ],
)
def test_an_ipv6_network_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (counted(one) == counted(other)) is same


def test_logs_show_no_single_person() -> None:
    assert shortened("198.51.100.77") == "198.51.100.0/24"
    assert shortened("2001:db8:1:2::1") == "2001:db8:1::/48"
    assert shortened("unix") == "unix"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("YEOUL_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("YEOUL_TRUSTED_PROXIES", "proxy.internal"),
        ("YEOUL_ADMIN_NETWORKS", "unix"),
        ("YEOUL_CORS_ORIGINS", "*"),
        ("YEOUL_CORS_ORIGINS", "null"),
        ("YEOUL_CORS_ORIGINS", "https://*.example.org"),
        ("YEOUL_CORS_ORIGINS", "https://app.example.org/"),
        ("YEOUL_CORS_ORIGINS", "https://App.example.org"),
        ("YEOUL_CORS_ORIGINS", "https://app.example.org:443"),
        ("YEOUL_CORS_ORIGINS", "http://app.example.org:80"),
        ("YEOUL_CORS_ORIGINS", "app.example.org"),
        ("YEOUL_LIMIT_READ_USER", "600"),
        ("YEOUL_LIMIT_READ_USER", "0/60"),
        ("YEOUL_LIMIT_READ_USER", "600/0"),
        ("YEOUL_LIMIT_READ_USER", "6e2/60"),
        ("YEOUL_CONNECTIONS", "10"),
        ("YEOUL_FORWARDED_HEADER", "x-real-ip"),
    ],
)
def test_settings_that_would_not_do_what_they_seem_to(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        config.load({name: text})
    assert name in str(raised.value)


def test_settings_of_the_shields_reach_a_child() -> None:
    environ = {
        "YEOUL_TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32,unix",
        "YEOUL_ADMIN_NETWORKS": "10.1.0.0/16,::1",
        "YEOUL_CORS_ORIGINS": "https://app.example.org,http://localhost:3000,http://[::1]:3000",
        "YEOUL_LIMIT_READ_USER": "off",
        "YEOUL_LIMIT_AUTH_ADDRESS": "5/60",
    }
    settings = config.load(environ)
    assert config.load(settings.environ()) == settings
    assert (settings.limit_read_user.quota, settings.limit_auth_address) == (0, (5, 60))
