"""The spans of a batch of commands: one for each that somebody records, and one for what they are written with."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from uuid import UUID

from stores.aggregates import NotNew, Outdated
from streams.envelope import Command
from streams.work import Work
from telemetry import tracing
from telemetry.tracing import Span


class Traced:
    """Entered around one try to handle a batch. Commands that are not recorded cost a look into an empty dict."""

    __slots__ = ("_spans",)

    def __init__(self, work: Work, group: str) -> None:
        self._spans: dict[tuple[UUID, str | None], Span] = {}
        if not tracing.is_on():
            return
        count = work.count
        for part in work.parts:
            for message in part.messages:
                envelope: Command = message.envelope
                known = envelope.operation, envelope.traceparent
                if known in self._spans:
                    continue
                span = tracing.processing(envelope.traceparent, envelope.tracestate, part.key.topic, group, count)
                if span is not None:
                    self._spans[known] = span

    def parent(self, envelope: Command) -> str | None:
        """`traceparent` of what follows from a command."""
        if self._spans:
            span = self._spans.get((envelope.operation, envelope.traceparent))
            if span is not None:
                return span.context.traceparent
        return envelope.traceparent

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the statement that writes all of it, or the transaction's part that does."""
        span = tracing.committing(self._spans.values(), "COMMIT")
        error: str | None = None
        try:
            yield
        except (NotNew, Outdated):
            raise  # no failure: it tells that the batch has to be decided by what is there now
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            if span is not None:
                span.end(error=error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for span in self._spans.values():
            span.end(error=None if kind is None else kind.__name__)
