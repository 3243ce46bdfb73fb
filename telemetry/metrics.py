"""Every metric of every room, each with one line that says what it tells.

Processes of the front share one address, so their metrics are added up by the parent (prometheus_client's multiprocess
mode, switched on by its own environment variable in the children).
"""

from prometheus_client import Counter, Gauge, Histogram

# --- HTTP (web/) ---

HTTP_SECONDS = Histogram(
    "yeoul_http_request_seconds",
    "Time from the head of a request to its answer, by method, route template and status; its count is the traffic.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
HTTP_RUNNING = Gauge(
    "yeoul_http_requests_running",
    "Requests that are being worked on now.",
    multiprocess_mode="livesum",
)
HTTP_REFUSALS = Counter(
    "yeoul_http_refusals_total",
    "Requests that were refused, by code (domain/refusals.py).",
    ("code",),
)
WEB_RESTARTS = Counter(
    "yeoul_web_process_restarts_total",
    "Front processes that died and were started again by the parent.",
)
