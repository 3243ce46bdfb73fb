"""A collector and a Sentry on sockets of their own, which read what really arrives by its protocol."""

from __future__ import annotations

import gzip
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Listener:
    """Takes POSTs. `answer`: the status it gives; `hold`: set to let answers go."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = 200
        self.hold = threading.Event()
        self.hold.set()
        self.came = threading.Condition()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                with listener.came:
                    given = {name.lower(): value for name, value in self.headers.items()}
                    listener.requests.append((self.path, given, body))
                    listener.came.notify_all()
                listener.hold.wait(30)
                self.send_response(listener.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.key = secrets.token_hex(16)
        self.dsn = f"http://{self.key}@{self.address}/42"

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def until(self, enough: Any, within_s: float = 20.0) -> None:
        """Waits for what `enough()` wants to see; to be called outside of a loop, or in a thread."""
        with self.came:
            assert self.came.wait_for(enough, within_s), [path for path, _, _ in self.requests]

    def spans(self) -> list[dict[str, Any]]:
        """All spans that came, with the service that made them."""
        found = []
        for path, headers, body in list(self.requests):
            assert path == "/v1/traces"
            assert headers["content-type"] == "application/x-protobuf"
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = values(group.resource.attributes)
                found += [
                    {
                        "service": about["service.name"], "name": span.name, "kind": span.kind,
                        "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                        "state": span.trace_state, "links": [link.trace_id.hex() for link in span.links],
                        "failed": span.status.code == 2, "took": span.end_time_unix_nano - span.start_time_unix_nano,
                        **values(span.attributes),
                    }
                    for scope in group.scope_spans
                    for span in scope.spans
                ]  # fmt: skip
        return found

    def reports(self) -> list[dict[str, Any]]:
        """All events that came in envelopes."""
        found = []
        for path, _, body in list(self.requests):
            assert path == "/api/42/envelope/"
            rest = body.split(b"\n")
            header, item, payload = (json.loads(line) for line in rest[:3])
            assert item["type"] == "event"
            assert header["event_id"] == payload["event_id"]
            found.append(payload)
        return found

    def reporter(self, message: str) -> str:
        """The process that reports what begins like this, once it does; waits as `until` does."""

        def reports() -> list[dict[str, Any]]:
            return [one for one in self.reports() if one["logentry"]["message"].startswith(message)]

        self.until(reports)
        (report,) = reports()
        process: str = report["tags"]["process"]
        return process


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()
