"""One environment variable: how its text becomes a value, and what is said when it cannot."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

KEY_BYTES = 32
EXAMPLE_KEY = "ZXhhbXBsZS1vbmx5LW5ldmVyLWluLXByb2R1Y3Rpb24="
"""The one key our documents show; production refuses it wherever it appears."""

EXAMPLE_PASSWORDS = frozenset({"yeoul", "example", "password", "postgres", "secret", "changeme"})
"""Passwords that documents and images show in addresses; production refuses them."""


class SettingsError(Exception):
    """The settings do not allow a start."""

    def __init__(self, complaints: Sequence[str]) -> None:
        """`complaints`: one sentence for each variable, without any secret's value."""
        self.complaints = tuple(complaints)
        super().__init__("The settings do not allow a start:\n" + "\n".join(f"  - {line}" for line in self.complaints))


class Refused(ValueError):
    """A text that is none of the allowed ones; the message says what was seen instead, and what is allowed."""

    def __init__(self, seen: str, allowed: str) -> None:
        super().__init__(f"{seen}; allowed: {allowed}")


@dataclass(frozen=True)
class Variable:
    """A row of the table of settings.

    `parse` takes the text and gives the value or raises `Refused`; `render` is its inverse, for a child's environment.
    """

    name: str
    attribute: str
    default: str
    about: str
    parse: Callable[[str], Any]
    render: Callable[[Any], str] = str
    secret: bool = False


def shown(text: str) -> str:
    """The text as it may be printed: quoted, and cut after 40 characters."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}… ({len(text)} characters)"


def one_of(*allowed: str) -> Callable[[str], str]:
    """A parser for a word out of a few."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise Refused(f"is {shown(text)}", ", ".join(allowed))
        return text

    return parse


def whole(low: int, high: int, reason: str = "") -> Callable[[str], int]:
    """A parser for a whole number from `low` to `high`; `reason` says why it ends there, where that is not plain."""

    def parse(text: str) -> int:
        # int() also takes "1_000", " 7 " and digits of other scripts; a setting should look like what it is.
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise Refused(f"is {shown(text)}", f"a whole number from {low} to {high}{reason and f', for {reason}'}")
        return int(text)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A parser for a length of time in seconds."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not low <= float(text) <= high:
            raise Refused(f"is {shown(text)}", f"seconds from {low:g} to {high:g}")
        return float(text)

    return parse


def words(pattern: str, allowed: str) -> Callable[[str], str]:
    """A parser for a text that matches `pattern` as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Refused(f"is {shown(text)}", allowed)
        return text

    return parse


def servers(text: str) -> str:
    """A parser for `host:port[,host:port]`; an empty text means that no server was named."""
    for server in text.split(",") if text else []:
        host, colon, port = server.rpartition(":")
        if not (colon and host and "/" not in host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise Refused(f"is {shown(text)}", "host:port, several separated by commas, without a scheme")
    return text


def address(*schemes: str) -> Callable[[str], str]:
    """A parser for a URL with one of `schemes`. It may carry a password, so only its scheme is ever shown."""

    def parse(text: str) -> str:
        if not text:
            return text
        allowed = f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        try:
            parts: SplitResult = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise Refused(f"has {len(text)} characters that are no URL", allowed) from None
        if parts.scheme not in schemes:
            seen = f"the scheme {shown(parts.scheme)}" if parts.scheme else "no scheme"
            raise Refused(f"has {seen}", allowed)
        if not parts.hostname and "host=" not in parts.query and parts.scheme != "unix":
            raise Refused("names no host", allowed)
        return text

    return parse


def key(text: str) -> bytes:
    """A parser for a secret: base64 of exactly 32 bytes. The value never appears in a message."""
    if not text:
        return b""
    allowed = f"base64 of exactly {KEY_BYTES} random bytes"
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"has {len(text)} characters that are not base64", allowed) from None
    if len(value) != KEY_BYTES:
        raise Refused(f"is base64 of {len(value)} bytes", allowed)
    return value


def keys(text: str) -> tuple[bytes, ...]:
    """A parser for `key[,key]`, the newest first; as `key`, the values never appear in a message."""
    if "," not in text:
        return (key(text),) if text else ()
    found: list[bytes] = []
    allowed = f"keys, several separated by commas, each base64 of exactly {KEY_BYTES} random bytes"
    for number, item in enumerate(text.split(","), start=1):
        try:
            found.append(key(item))
        except Refused as refusal:
            raise Refused(f"has an entry (number {number}) that {str(refusal).partition(';')[0]}", allowed) from None
        if not item:
            raise Refused(f"has an entry (number {number}) that is empty", allowed)
    return tuple(found)


def named_keys(text: str) -> tuple[tuple[str, bytes], ...]:
    """A parser for `kid:base64[,kid:base64]`; names must differ."""
    pairs: list[tuple[str, bytes]] = []
    allowed = f"kid:key, several separated by commas, each key base64 of exactly {KEY_BYTES} bytes, each kid once"
    for number, item in enumerate(text.split(",") if text else [], start=1):
        kid, colon, value = item.partition(":")
        if not colon or not value or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", kid):
            raise Refused(f"has an entry (number {number}) that is not kid:key", allowed)
        try:
            pairs.append((kid, key(value)))
        except Refused as refusal:
            raise Refused(f"has an entry (number {number}) that {str(refusal).partition(';')[0]}", allowed) from None
    if len({kid for kid, _ in pairs}) != len(pairs):
        raise Refused("names a kid twice", allowed)
    return tuple(pairs)


def render_key(value: bytes) -> str:
    """The inverse of `key`."""
    return base64.b64encode(value).decode()


def render_keys(value: tuple[bytes, ...]) -> str:
    """The inverse of `keys`."""
    return ",".join(map(render_key, value))


def render_named_keys(value: tuple[tuple[str, bytes], ...]) -> str:
    """The inverse of `named_keys`."""
    return ",".join(f"{kid}:{render_key(seed)}" for kid, seed in value)


def folder(text: str) -> Path:
    """A parser for a folder; `~` is the home folder. It need not exist yet."""
    if not text or "\0" in text:
        raise Refused(f"is {shown(text)}", "the path of a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise Refused(f"is {shown(text)}, and nobody of that name has a home folder", "the path of a folder") from None


def example(name: str, text: str) -> str | None:
    """The complaint when `text` is one of the documented example values, else None."""
    if EXAMPLE_KEY in text:
        return f"{name} is the example key from the documents; make one of your own: openssl rand -base64 32"
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    # Clients of PostgreSQL and Redis undo escapes, and take a password from the query as well.
    passwords = [unquote(parts.password or ""), *parse_qs(parts.query).get("password", [])]
    if any(password.lower() in EXAMPLE_PASSWORDS for password in passwords):
        return f"{name} carries an example password; give that server a password of its own"
    return None


def weak(name: str, values: Mapping[str, bytes]) -> str | None:
    """The complaint when the key `name` cannot be random, or is another's value too, else None."""
    value = values[name]
    if len(set(value)) < 8:
        return f"{name} repeats a few bytes; make a random one: openssl rand -base64 32"
    twins = sorted(other for other in values if other < name and values[other] == value)
    return f"{name} is the same key as {twins[0]}; each needs one of its own" if twins else None
