"""Spans by OpenTelemetry's SDK, exported by OTLP over HTTP from a thread of their own. Imported only if configured."""

import logging
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from config import Settings
from telemetry import metrics
from telemetry.tracecontext import TraceContext
from telemetry.tracing import METHODS, Span

log = logging.getLogger("yeoul.telemetry")

MOST_WAITING = 8192
"""Spans that may wait for their export; more are lost, and counted."""
MOST_AT_ONCE = 512
GATHER_S = 0.5
TIMEOUT_S = 5.0
"""How long the collector may take for a batch, tries again included, seconds."""
CLOSE_S = 2.0
WARN_EVERY_S = 60.0
MOST_LINKS = 128


class Exporting(SpanProcessor):
    """Hands spans to the exporter, in its thread. The loop never waits for it: what finds no room is lost."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._waiting: queue.Queue[ReadableSpan] = queue.Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._warned_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """See SpanProcessor; called in the loop."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            metrics.SPANS.labels("lost").inc()

    def shutdown(self) -> None:
        """See SpanProcessor."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See SpanProcessor: there is nobody to ask for it, `shutdown` exports what waits."""
        return True

    def _run(self) -> None:
        while not self._closing.wait(GATHER_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while True:
            batch: list[ReadableSpan] = []
            while len(batch) < MOST_AT_ONCE:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            if not batch:
                return
            self._export(batch)

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            arrived = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # whatever it is, nobody looks at this thread
            log.debug("spans were not exported: %s", type(error).__name__)
            arrived = False
        metrics.SPANS.labels("exported" if arrived else "lost").inc(len(batch))
        if not arrived and monotonic() - self._warned_at > WARN_EVERY_S:
            self._warned_at = monotonic()
            log.warning("spans are lost: the collector does not take them; look at OTEL_EXPORTER_OTLP_ENDPOINT")


class Spans:
    """Makes the spans of this process."""

    def __init__(self, settings: Settings, process: str) -> None:
        # The SDK tells each failure as an error, with a trace; ours are counted, and told once a minute.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        about: dict[str, str | int] = {
            "service.name": f"yeoul-{process}",
            "deployment.environment.name": settings.environment,
            "process.pid": os.getpid(),
        }
        endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        self._processor = Exporting(
            OTLPSpanExporter(endpoint=endpoint, headers=dict(settings.otlp_headers), timeout=TIMEOUT_S)
        )
        # `Resource.create` would look what else is installed; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win.
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
            resource=Resource(dict(about)).merge(_named_outside()),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("yeoul")

    def close(self) -> None:
        """Exports what waits, for CLOSE_S at most."""
        self._processor.shutdown()

    def request(self, parent: TraceContext | None, method: str) -> Span:
        """See telemetry.tracing."""
        attributes = {"http.request.method": method if method in METHODS else "_OTHER"}
        return self._start(method if method in METHODS else "HTTP", SpanKind.SERVER, parent, attributes)

    def sending(self, parent: TraceContext, topic: str, operation: str) -> Span:
        """See telemetry.tracing."""
        attributes = _messaging("send", topic) | {"yeoul.operation.id": operation}
        return self._start(f"send {topic}", SpanKind.PRODUCER, parent, attributes)

    def processing(self, parent: TraceContext, topic: str, group: str, count: int) -> Span:
        """See telemetry.tracing."""
        attributes = _messaging("process", topic) | {
            "messaging.consumer.group.name": group,
            "messaging.batch.message_count": count,
        }
        return self._start(f"process {topic}", SpanKind.CONSUMER, parent, attributes)

    def committing(self, contexts: Sequence[TraceContext], statement: str) -> Span:
        """See telemetry.tracing."""
        links = [Link(_outside(context)) for context in contexts[1 : 1 + MOST_LINKS]]
        attributes = {"db.system.name": "postgresql", "db.operation.name": statement}
        return self._start(f"{statement} postgresql", SpanKind.CLIENT, contexts[0], attributes, links)

    def end(
        self, recorded: object, attributes: Mapping[str, str | int] | None, name: str | None, error: str | None
    ) -> None:
        """See telemetry.tracing.Span."""
        span = cast("trace.Span", recorded)
        if attributes:
            span.set_attributes(attributes)
        if name is not None:
            span.update_name(name)
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _start(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext | None,
        attributes: Mapping[str, str | int],
        links: Sequence[Link] = (),
    ) -> Span:
        # An empty context where there is no parent: whatever is current in this task is not meant.
        within = Context()
        if parent is not None:
            within = trace.set_span_in_context(NonRecordingSpan(_outside(parent)), within)
        span = self._tracer.start_span(name, within, kind, attributes, links)
        made = span.get_span_context()
        flags = int(made.trace_flags) & 1
        traceparent = f"00-{made.trace_id:032x}-{made.span_id:016x}-{flags:02x}"
        return Span(TraceContext(traceparent, None if parent is None else parent.tracestate), span)


def _messaging(kind: str, topic: str) -> dict[str, str | int]:
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.name": kind,
        "messaging.operation.type": kind,
    }


def _outside(context: TraceContext) -> SpanContext:
    """`context` as the SDK knows one that came from elsewhere."""
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(context.sampled)),
        trace_state=TraceState.from_header([context.tracestate]) if context.tracestate else None,
    )


def _named_outside() -> Resource:
    """What the standard's own variables say of this service."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    return OTELResourceDetector().detect()
