"""Spans: what took how long within a request, and within the worker's handling of it.

Without an endpoint for them (OTEL_EXPORTER_OTLP_ENDPOINT) there are none, no exporter is even imported,
and a caller's trace context travels on as it came. Names and attributes are those of OpenTelemetry's semantic
conventions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from telemetry.tracecontext import TraceContext, read

if TYPE_CHECKING:
    from config import Settings
    from telemetry.spans import Spans

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"})
"""What a label or an attribute may say of a method; anything else a caller invents is one of `_OTHER`."""

_spans: Spans | None = None


class Span:
    """A span that runs. Without an exporter it is only a place in somebody's trace."""

    __slots__ = ("context", "recorded")

    def __init__(self, context: TraceContext, recorded: object = None) -> None:
        self.context = context
        self.recorded = recorded

    def end(
        self, attributes: Mapping[str, str | int] | None = None, *, name: str | None = None, error: str | None = None
    ) -> None:
        """It is over. `error`: a status or the name of an exception's class; never its message."""
        if _spans is not None and self.recorded is not None:
            _spans.end(self.recorded, attributes, name, error)

    def answered(self, method: str, route: str | None, status: int, request_id: str) -> None:
        """The request is over. `route`: the template, which names the span; None for a path that nobody knows."""
        if self.recorded is None:
            return
        told: dict[str, str | int] = {"http.response.status_code": status, "yeoul.request.id": request_id}
        name = None
        if route is not None:
            told["http.route"] = route
            name = f"{method if method in METHODS else 'HTTP'} {route}"
        self.end(told, name=name, error=str(status) if status >= 500 else None)


def configure(settings: Settings, process: str) -> None:
    """From now on spans are exported, if the settings name an endpoint. Once in a process, before its loop runs."""
    global _spans
    if settings.otlp_endpoint:
        from telemetry.spans import Spans

        _spans = Spans(settings, process)


def close() -> None:
    """Exports what waits, for two seconds at most; there are no spans any more."""
    global _spans
    ending, _spans = _spans, None
    if ending is not None:
        ending.close()


def is_on() -> bool:
    """True if spans are exported."""
    return _spans is not None


def request(traceparent: str | None, tracestate: str | None, method: str) -> Span | None:
    """The span of a request that begins; None if nobody traces."""
    if _spans is None and traceparent is None:
        return None
    context = read(traceparent, tracestate)
    if _spans is not None:
        return _spans.request(context, method)
    return None if context is None else Span(context)


def sending(traceparent: str | None, tracestate: str | None, topic: str, operation: object) -> Span | None:
    """The span of a command that goes to `topic`, within a request's; None if it is not recorded."""
    if _spans is None:
        return None
    context = read(traceparent, tracestate)
    return None if context is None or not context.sampled else _spans.sending(context, topic, str(operation))


def processing(traceparent: str | None, tracestate: str | None, topic: str, group: str, count: int) -> Span | None:
    """The span of a command that is handled with a batch of `count`; None if it is not recorded."""
    if _spans is None or traceparent is None:
        return None
    context = read(traceparent, tracestate)
    return None if context is None or not context.sampled else _spans.processing(context, topic, group, count)


def committing(spans: Iterable[Span], statement: str) -> Span | None:
    """The span of a commit in PostgreSQL for all of these: within the first, linked to the others."""
    contexts = [span.context for span in spans]
    return None if _spans is None or not contexts else _spans.committing(contexts, statement)
