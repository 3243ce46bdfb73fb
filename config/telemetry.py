"""Settings for what leaves the house about how it does: spans and reports of errors."""

import re
from urllib.parse import quote, unquote

from config.variables import Refused, Variable, address, shown


def ratio(text: str) -> float:
    """A parser for a share from 0 to 1."""
    if not re.fullmatch(r"[0-9](\.[0-9]{1,9})?", text) or float(text) > 1:
        raise Refused(f"is {shown(text)}", "a number from 0 to 1")
    return float(text)


def headers(text: str) -> tuple[tuple[str, str], ...]:
    """A parser for `name=value[,name=value]`; the values are secrets, and never shown."""
    found = []
    for number, item in enumerate(text.split(",") if text else [], start=1):
        name, equals, value = (part.strip() for part in item.partition("="))
        value = unquote(value)  # so the standard spells what would end an entry
        fit = re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) and value.isascii() and value.isprintable()
        if not (equals and fit):
            raise Refused(f"has an entry (number {number}) that is no name=value", "name=value, separated by commas")
        found.append((name.lower(), value))
    return tuple(found)


def render_headers(value: tuple[tuple[str, str], ...]) -> str:
    """The inverse of `headers`."""
    return ",".join(f"{name}={quote(text)}" for name, text in value)


_http = address("http", "https")


def dsn(text: str) -> str:
    """A parser for a DSN, `https://key@host/project`. It holds a key, and is never shown."""
    _http(text)
    if text and not re.fullmatch(r"https?://[A-Za-z0-9]+(:[A-Za-z0-9]+)?@[^/@?#]+(/[^?#]*)?/[0-9]+", text):
        raise Refused(f"has {len(text)} characters that are no DSN", "https://key@host/project, as Sentry shows it")
    return text


TELEMETRY: tuple[Variable, ...] = (
    Variable("YEOUL_SENTRY_DSN", "sentry_dsn", "", "Where errors are reported to; empty: nowhere", dsn, secret=True),
    Variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otlp_endpoint",
        "",
        "A collector that takes spans by OTLP over HTTP; empty: none are made",
        _http,
        secret=True,
    ),
    Variable(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "otlp_headers",
        "",
        "What it wants to see in headers, as name=value[,…]",
        headers,
        render_headers,
        secret=True,
    ),
    Variable(
        "YEOUL_TRACE_RATIO",
        "trace_ratio",
        "1",
        "Share of the traces begun here that are recorded, 0 to 1",
        ratio,
        lambda value: f"{value:.9f}".rstrip("0").rstrip("."),
    ),
)
"""Their rows in the table of settings."""
