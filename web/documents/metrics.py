"""Metrics, dead letters and operations, declared; and what is outside of the API."""

from domain.refusals import Code
from domain.renderings import CSV, PARQUET
from stores.dead_letters import STATES
from web import analytics, dead_letters, live
from web.documents import metric_shapes as shapes
from web.documents.declared import CURSOR, Endpoint, Parameter, limit, many, one

METRICS, LETTERS, WRITES, ABOUT = "Metrics", "Dead letters", "Operations", "About this server"
BYTES = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
MOMENT = "RFC 3339; without an offset it is of `tz`."
WINDOW = Parameter("window", str, "A window of the metric; its first one by default.", example="hour")
GROUP = Parameter(
    "group",
    {"type": "object", "additionalProperties": {"type": "string"}},
    "Only this value of a path of `group_by`, for each path: `group[type]=order.placed`.",
    deep=True,
)
FROM = Parameter("from", str, f"Windows that begin then or later. {MOMENT}")
TO = Parameter("to", str, f"Windows that begin before. {MOMENT}")

ENDPOINTS: dict[str, Endpoint] = {
    "GET /analytics": Endpoint(
        tag=METRICS,
        summary="List metrics",
        answers={200: many(shapes.Metric, "The metrics that you may see, by name.")},
    ),
    "GET /analytics/{metric}": Endpoint(
        tag=METRICS,
        summary="Ask a metric",
        says="`csv` and `parquet` come bare, and without `limit` as a whole or not at all.",
        parameters=(
            WINDOW,
            FROM,
            TO,
            GROUP,
            Parameter("fill", {"enum": ["true", "false"]}, "Also the windows in which nothing happened."),
            Parameter("tz", str, "A zone: its days and months, and times as they are there.", example="UTC"),
            Parameter("format", {"enum": list(analytics.FORMATS), "default": "json"}, "How you want it."),
            limit(analytics.DEFAULT_LIMIT, 10_000, f"Up to {analytics.MOST} as JSON, 100 by default."),
            CURSOR,
        ),
        query="window=hour",
        answers={
            200: many(
                shapes.LINE,
                "Windows of groups, in order of time, then of the group.",
                "Content-Disposition",
                "X-Next-Cursor",
                media={CSV.partition(";")[0]: TEXT, PARQUET: BYTES},
            )
        },
        refuses=(Code.ANSWER_TOO_LARGE,),
    ),
    "GET /analytics/{metric}/dropped": Endpoint(
        tag=METRICS,
        summary="See which events are in no window",
        parameters=(FROM, TO),
        answers={200: many(shapes.Dropped, "By hour and reason; of the last seven days by default.")},
    ),
    "GET /analytics/{metric}/live": Endpoint(
        tag=METRICS,
        summary="Watch a metric",
        says="Server-Sent Events: a `snapshot`, then `rows` that changed, until one of you ends it.",
        parameters=(
            WINDOW,
            Parameter("since", {"type": "string"}, f"From when on; at most {live.MOST_LAST} windows. With an offset."),
            GROUP,
        ),
        answers={200: one(None, "The stream; each event's data is JSON.", media={"text/event-stream": TEXT})},
        refuses=(Code.ANSWER_TOO_LARGE,),
    ),
    "GET /dead-letters": Endpoint(
        tag=LETTERS,
        summary="List records that could not be handled",
        parameters=(
            limit(dead_letters.DEFAULT_LIMIT, dead_letters.MOST),
            CURSOR,
            Parameter("filter[group]", str, "Of this consumer group (its full name)."),
            Parameter("filter[topic]", str, "Of this topic (its full name)."),
            Parameter("filter[state]", {"enum": list(STATES)}, "In this state."),
        ),
        query="filter[state]=parked",
        answers={200: many(shapes.ListedLetter, "Oldest first, without what came.")},
    ),
    "GET /dead-letters/{id}": Endpoint(
        tag=LETTERS,
        summary="Read one with its key, headers and value",
        answers={200: one(shapes.Letter, "The record.")},
    ),
    "GET /operations/{id}": Endpoint(
        tag=WRITES,
        summary="Ask what became of a write",
        says="Of a write that was answered with 202.",
        answers={
            200: one(
                "Operation", "What became of it. While it is `pending`, ask again after `Retry-After`.", "Retry-After"
            )
        },
        refuses=(Code.BROKER_AWAY,),
    ),
}

PLAIN: dict[str, Endpoint] = {
    "GET /.well-known/jwks.json": Endpoint(
        tag=ABOUT,
        summary="Keys by which anybody can check our tokens",
        answers={200: one(shapes.PublicKeys, "The public keys.")},
        bare=True,
    ),
    "GET /livez": Endpoint(
        tag=ABOUT, summary="Is the process alive?", answers={200: one(shapes.Live, "It is.")}, bare=True
    ),
    "GET /readyz": Endpoint(
        tag=ABOUT,
        summary="Can it do its work?",
        answers={200: one(shapes.READY, "It can."), 503: one(shapes.READY, "It can't.")},
        bare=True,
    ),
    "GET /problems/{code}": Endpoint(
        tag=ABOUT,
        summary="What a code means",
        answers={200: one(shapes.Meaning, "The code, its status, and its sentence in each language.")},
        bare=True,
        refuses=(Code.NOT_FOUND,),
    ),
    "GET /api/v1/openapi.json": Endpoint(
        tag=ABOUT,
        summary="This document, of v1",
        answers={200: one({"type": "object"}, "OpenAPI 3.1.")},
        bare=True,
        tagged=True,
    ),
    "GET /api/v2/openapi.json": Endpoint(
        tag=ABOUT,
        summary="This document, of v2",
        answers={200: one({"type": "object"}, "OpenAPI 3.1.")},
        bare=True,
        tagged=True,
    ),
    "GET /api/asyncapi.json": Endpoint(
        tag=ABOUT,
        summary="What travels through Kafka",
        answers={200: one({"type": "object"}, "AsyncAPI 3.0.")},
        bare=True,
        tagged=True,
    ),
}
