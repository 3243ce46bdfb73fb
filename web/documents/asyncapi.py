"""The AsyncAPI 3.0 document: every topic with what it carries, from topics.py and the types of the nouns."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.nouns import NOUNS
from streams import envelope
from topics import COMMANDS_OF, DEAD_LETTER_PARKED, DEAD_LETTERS, EVENTS_OF, INGEST, TOPICS, Topic
from web.documents.declared import Json
from web.documents.schemas import clean, ref

PARKED: Json = {
    "type": "object",
    "required": ["group", "topic", "partition", "offset", "code", "error", "handler", "attempts"],
    "properties": {
        **{name: {"type": "string"} for name in ("group", "topic", "code", "error", "handler")},
        **{name: {"type": "integer"} for name in ("partition", "offset", "attempts")},
        "value_bytes": {"type": ["integer", "null"]},
        "value_base64": {"type": ["string", "null"]},
    },
}


class CloudEvent(envelope.Foreign, frozen=True):
    """Anybody's CloudEvent 1.0."""

    data: Any = None


ABOUT = """\
Each record is a CloudEvent 1.0 in structured mode (`content-type: application/cloudevents+json`); `ingest` takes binary
mode too. Commands are signed, and only Yeoul sends them: to change something from elsewhere, use the REST API, or
produce an event of your own to `ingest`. Types change by addition only.
"""


def document() -> Json:
    """The document. Topics are named without the installation's prefix, which is a parameter."""
    types = {name: kind for noun in NOUNS.values() for name, kind in {**noun.COMMANDS, **noun.EVENTS}.items()}
    envelopes = (envelope.Command, envelope.Event, CloudEvent)
    _, components = msgspec.json.schema_components(
        [*envelopes, *types.values()], ref_template="#/components/schemas/{name}"
    )
    schemas: Json = {name: clean(schema) for name, schema in components.items()}
    schemas["Parked"] = PARKED
    messages: dict[str, Json] = {}
    channels: dict[str, Json] = {}
    for topic in TOPICS:
        made = _messages(topic, types)
        messages |= made
        channels[topic.name] = _channel(topic, list(made))
    return {
        "asyncapi": "3.0.0",
        "id": "urn:yeoul:kafka",
        "info": {
            "title": "Yeoul",
            "version": "1.0",
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "kafka": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "YEOUL_KAFKA_URL of the installation.",
            }
        },
        "channels": channels,
        "operations": {
            f"{_action(topic)}.{topic.name}": {
                "action": _action(topic),
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"Written by {topic.owner}.",
            }
            for topic in TOPICS
        },
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def _action(topic: Topic) -> str:
    """What Yeoul does there, as another program sees it."""
    return "receive" if topic is INGEST else "send"


def _channel(topic: Topic, names: list[str]) -> Json:
    retention_ms = int(topic.retention.total_seconds() * 1000)
    configuration = {
        "cleanup.policy": [topic.cleanup],
        "retention.ms": retention_ms,
        "max.message.bytes": topic.max_bytes,
    }
    return {
        "address": f"{{prefix}}.{topic.name}",
        "title": topic.name,
        "description": f"{topic.carries[:1].upper()}{topic.carries[1:]}. A repeat is known by: {topic.repeats}.",
        "parameters": {"prefix": {"default": "yeoul", "description": "YEOUL_TOPIC_PREFIX of the installation."}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {"partitions": topic.partitions, "topicConfiguration": configuration, "bindingVersion": "0.5.0"}
        },
    }


def _messages(topic: Topic, types: Mapping[str, Any]) -> dict[str, Json]:
    if topic is INGEST:
        return {"foreign": _message(topic, "CloudEvent", "Any CloudEvent of yours.", {})}
    if topic is DEAD_LETTERS:
        return {
            DEAD_LETTER_PARKED: _message(
                topic, "CloudEvent", "A record was parked.", _typed(DEAD_LETTER_PARKED, "Parked")
            )
        }
    made: dict[str, Json] = {}
    for of, which, kind in ((COMMANDS_OF, "COMMANDS", "Command"), (EVENTS_OF, "EVENTS", "Event")):
        for noun, its in of.items():
            if its is topic:
                made |= {
                    name: _message(topic, kind, types[name].__doc__, _typed(name, types[name].__name__))
                    for name in getattr(NOUNS[noun], which)
                }
    return made


def _typed(name: str, data: str) -> Json:
    return {"type": "object", "properties": {"type": {"const": name}, "data": ref(data)}}


def _message(topic: Topic, kind: str, says: str, typed: Json) -> Json:
    payload = {"allOf": [ref(kind), typed]} if typed else ref(kind)
    found: Json = {
        "title": says.partition(". ")[0].rstrip("."),
        "summary": says,
        "contentType": "application/cloudevents+json",
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": "0.5.0"}},
    }
    if kind == "Command":
        found["headers"] = {
            "type": "object",
            "required": [envelope.SIGNATURE],
            "properties": {
                envelope.SIGNATURE: {"type": "string", "description": "HMAC of the record by a front's key."},
                "traceparent": {"type": "string", "description": "Of the request, or of the span that sent it."},
                "tracestate": {"type": "string", "description": "Of the request."},
            },
        }
    return found
