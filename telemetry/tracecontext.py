"""Trace context as it travels: the headers of W3C Trace Context, and what a line of a log says of them."""

from collections.abc import Mapping, Sequence

import msgspec

LONGEST_STATE = 512
"""Characters of a tracestate that the standard asks to pass on at least; a longer one is left out, as it may be."""


class TraceContext(msgspec.Struct, frozen=True):
    """Where in which trace something happens. `traceparent` is well-formed (version 00, 55 characters)."""

    traceparent: str
    tracestate: str | None = None

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent[36:52]

    @property
    def sampled(self) -> bool:
        """True if whoever began the trace records it."""
        return bool(int(self.traceparent[53:], 16) & 1)


def read(traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
    """The context; None if there is none or it is not well-formed, as the standard asks: then a trace begins here."""
    if traceparent is None or not _is_well_formed(traceparent):
        return None
    fit = tracestate and len(tracestate) <= LONGEST_STATE and tracestate.isascii() and tracestate.isprintable()
    return TraceContext(traceparent, tracestate if fit else None)


def _is_well_formed(given: str) -> bool:
    parts = given.split("-")
    if len(given) != 55 or [len(part) for part in parts] != [2, 32, 16, 2] or not given.isascii():
        return False
    if given != given.lower() or not "".join(parts).isalnum():  # int() would also take signs and "_"
        return False
    try:
        version, trace, span, _flags = (int(part, 16) for part in parts)
    except ValueError:
        return False
    return version == 0 and trace > 0 and span > 0


def of_headers(headers: Sequence[tuple[str, bytes | None]]) -> TraceContext | None:
    """The context that a Kafka record's headers name, if they do."""
    found = {name: value for name, value in headers if name in ("traceparent", "tracestate") and value is not None}
    parent, state = (found.get(name, b"").decode("ascii", "replace") for name in ("traceparent", "tracestate"))
    return read(parent, state)


def to_headers(traceparent: str | None, tracestate: str | None) -> list[tuple[str, bytes]]:
    """Its inverse."""
    pairs: Mapping[str, str | None] = {"traceparent": traceparent, "tracestate": tracestate}
    return [(name, value.encode()) for name, value in pairs.items() if value is not None]


def fields(context: TraceContext | None) -> dict[str, str]:
    """What a line of a log says of it."""
    return {} if context is None else {"trace_id": context.trace_id, "span_id": context.span_id}
