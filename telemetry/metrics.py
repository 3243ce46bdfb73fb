"""Every metric of every room, each with one line that says what it tells.

Processes of the front share one address, so their metrics are added up by the parent (prometheus_client's multiprocess
mode, switched on by its own environment variable in the children).
"""

from prometheus_client import Counter, Gauge, Histogram

# --- HTTP (web/) ---

HTTP_SECONDS = Histogram(
    "yeoul_http_request_seconds",
    "Time from the head of a request to its answer, by method, route template and class of status (2xx); its count is "
    "the traffic.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
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

LIMITED = Counter(
    "yeoul_limited_total",
    "Requests that were refused as a limit was used up, by limit (config/shields.py).",
    ("limit",),
)
CONNECTIONS = Gauge(
    "yeoul_connections",
    "Open connections of clients.",
    multiprocess_mode="livesum",
)
CONNECTIONS_CUT = Counter(
    "yeoul_connections_cut_total",
    "Connections that the front ended, by reason: slow_head, slow_body, slow_reader, crowded (made room for another).",
    ("reason",),
)

LIVE_WATCHERS = Gauge(
    "yeoul_live_watchers",
    "Connections that watch a live table.",
    multiprocess_mode="livesum",
)
LIVE_ENDS = Counter(
    "yeoul_live_ends_total",
    "Connections to live tables that the front ended, by reason: too_slow, too_many_rows, changed, expired, closing.",
    ("reason",),
)

# --- The cache in Redis (stores/) ---

CACHE_READS = Counter(
    "yeoul_cache_reads_total",
    "Objects that were looked up in the cache, by what came of it: hit, absent (known not to be there), miss "
    "(PostgreSQL was asked), away (Redis is, or just was).",
    ("noun", "outcome"),
)
CACHE_DROPS = Counter(
    "yeoul_cache_drops_total",
    "Times that this process dropped everything cached, as writes may have missed it while Redis was away.",
)

# --- What leaves the house (telemetry/) ---

SPANS = Counter(
    "yeoul_spans_total",
    "Spans by what became of them: exported, or lost (the collector is away or slow, and the queue bounded).",
    ("outcome",),
)
ERROR_REPORTS = Counter(
    "yeoul_error_reports_total",
    "Errors that were handed over to be reported.",
)

# --- Streams (streams/) ---

RECORDS = Counter(
    "yeoul_records_total",
    "Records by what became of them: handled, repeat, unknown (type not known here, skipped), parked (dead letter).",
    ("group", "outcome"),
)
BATCH_RECORDS = Histogram(
    "yeoul_batch_records",
    "Records in one batch; large ones under load are the group commit at work.",
    ("group",),
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000),
)
BATCH_SECONDS = Histogram(
    "yeoul_batch_seconds",
    "Time to decode, handle and commit one batch.",
    ("group",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
FENCE_MISMATCHES = Counter(
    "yeoul_fence_mismatches_total",
    "Batches rolled back as another worker had moved a partition: expected around a rebalance, alarming otherwise.",
    ("group",),
)
STORE_WAITS = Counter(
    "yeoul_store_waits_total",
    "Tries of a batch that found what it needs away or refusing: PostgreSQL, Kafka for what follows, the mail server; "
    "no record is to blame, the batch waits, nothing is lost.",
    ("group",),
)
STOPPED_PARTITIONS = Counter(
    "yeoul_stopped_partitions_total",
    "Partitions that stopped and wait for an operator: records lost, nearly all poison, or no client can parse them.",
    ("group",),
)
LAG = Gauge(
    "yeoul_lag_records",
    "Records on the broker that the group has not read yet, over the partitions of this process.",
    ("group",),
)
PARTITIONS = Gauge(
    "yeoul_partitions",
    "Partitions that this process owns, by group.",
    ("group",),
)
GROUP_RESTARTS = Counter(
    "yeoul_group_restarts_total",
    "Times a consumer group of this process crashed and was started again.",
    ("group",),
)
MAILS = Counter(
    "yeoul_mails_total",
    "Mails to owners of accounts, by kind, and what came of each: sent, repeat, off, bounded, outdated, gone, "
    "unsendable.",
    ("kind", "outcome"),
)
