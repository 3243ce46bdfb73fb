"""Reports of errors to Sentry, or what speaks its protocol, if YEOUL_SENTRY_DSN is set.

What is logged as an error is reported: from the front's processes, their parent and the workers alike. A report is made
here of what is allowed to leave the house, and of nothing else: the unfilled text of the line, the class of the
exception, and places in the code. No values: not the exception's text, no local variables, no headers, no bodies, no
user. The line in the log has the rest; both name the request, the operation and the trace.
"""

import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config import Settings
from telemetry import metrics
from telemetry.logs import Unexpected

ROOT = Path(__file__).resolve().parents[1]
CLOSE_S = 2.0
TAGS = ("request", "operation", "trace_id", "span_id")
"""Fields of a line that a report names: ids of ours, which say nothing to anybody else."""
NEVER = ("sentry_sdk", "urllib3", "opentelemetry")
"""Whose own errors would be reported by what has failed."""


def configure(settings: Settings, process: str) -> None:
    """From now on errors are reported, if the settings say where to. After telemetry.logs.configure."""
    if settings.sentry_dsn:
        logging.getLogger().addHandler(Reports(settings, process))


def close() -> None:
    """Sends what waits, for two seconds at most."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Reports)]:
        root.removeHandler(handler)
        handler.close()


class Reports(logging.Handler):
    """Reports what is logged. The client's queue is bounded, and its own thread sends: nobody waits for it."""

    def __init__(self, settings: Settings, process: str) -> None:
        super().__init__(logging.ERROR)
        import sentry_sdk

        # It tells each try to reach a Sentry that is away.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._process = process
        self._client = sentry_sdk.Client(
            dsn=settings.sentry_dsn,
            environment=settings.environment,
            server_name=process,  # not the host's name
            release="",  # else it would ask git
            before_send=_nothing_added,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            shutdown_timeout=CLOSE_S,
        )
        self.addFilter(Unexpected())
        self.addFilter(lambda record: not record.name.startswith(NEVER))

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            self._client.capture_event(self._event(record))  # type: ignore[arg-type]
            metrics.ERROR_REPORTS.inc()
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """See logging.Handler."""
        self._client.close(CLOSE_S)
        super().close()

    def _event(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = getattr(record, "fields", {})
        event: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": "fatal" if record.levelno >= logging.CRITICAL else "error",
            "logger": record.name,
            "logentry": {"message": _unfilled(record)},
            "tags": {"process": self._process} | {name: str(fields[name]) for name in TAGS if name in fields},
        }
        if record.exc_info and record.exc_info[1] is not None:
            event["exception"] = {"values": _exceptions(record.exc_info[1])}
        return event


def _unfilled(record: logging.LogRecord) -> str:
    """The text of a line before any value was put in. Others than we may log a text that is filled already."""
    if record.args or record.name.startswith("yeoul"):
        return str(record.msg)
    return f"an error that {record.name} logged"


def _exceptions(error: BaseException) -> list[dict[str, Any]]:
    """The exception and its causes, the first cause first, as the protocol wants them."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found and len(found) < 10:
        found.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return [
        {
            "type": type(one).__name__,
            "module": type(one).__module__,
            "stacktrace": {"frames": [_frame(frame.f_code, line) for frame, line in _walk(one)]},
        }
        for one in reversed(found)
    ]


def _walk(error: BaseException) -> list[tuple[Any, int]]:
    return list(traceback.walk_tb(error.__traceback__))[-100:]


def _frame(code: Any, line: int) -> dict[str, Any]:
    path = Path(code.co_filename)
    ours = path.is_relative_to(ROOT) and not path.is_relative_to(sys.prefix)
    if ours:
        name = path.relative_to(ROOT).as_posix()
    else:
        # From the package on: what stands before it may name a person.
        parts = path.parts
        name = "/".join(parts[parts.index("site-packages") + 1 :] if "site-packages" in parts else parts[-2:])
    return {"filename": name, "function": code.co_name, "lineno": line, "in_app": ours}


ALLOWED = frozenset({
    "event_id", "timestamp", "level", "logger", "logentry", "tags", "exception", "environment", "server_name",
    "platform", "sdk",
})  # fmt: skip


def _nothing_added(event: Any, _hint: Any) -> Any:
    """Whatever the SDK adds by itself, now or in another version, stays here."""
    return {name: value for name, value in event.items() if name in ALLOWED}
