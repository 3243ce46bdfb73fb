"""CloudEvents 1.0 (JSON) on the Kafka binding, in and out of typed values.

Structured mode (`content-type: application/cloudevents+json`) and binary mode (`ce_` headers) are both read; what we
write is structured. Source: CloudEvents core 1.0.2, its JSON format, and its Kafka protocol binding.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
STRUCTURED_HEADERS: list[tuple[str, bytes]] = [("content-type", CONTENT_TYPE.encode())]
SIGNATURE = "signature"
COMMAND_SOURCE = "/yeoul/web"


class Unreadable(ValueError):
    """The record is not a message that this group understands; it becomes a dead letter with this code and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command: CloudEvents attributes, our extensions, and the data still undecoded."""

    id: str
    source: str
    type: str
    subject: UUID
    """The aggregate."""
    time: datetime
    operation: UUID
    data: msgspec.Raw
    actor: UUID | None = None
    actorrole: str = "guest"
    fingerprint: str = ""
    """Hash of what the caller sent; another one under the same operation is refused."""
    replyto: str = ""
    """Redis channel of the front that waits for the answer."""
    traceparent: str | None = None
    tracestate: str | None = None
    requestid: str = ""
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of ours, as it stands in the journal and on the topic."""

    id: str
    source: str
    type: str
    subject: UUID
    time: datetime
    sequence: str
    """Position in its partition: `life.command offset.index`, zero-padded, so that it compares as text."""
    operation: UUID
    aggregateversion: int
    data: msgspec.Raw
    actor: UUID | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    requestid: str = ""
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class _About(msgspec.Struct, frozen=True):
    subject: UUID


class _Identity(msgspec.Struct, frozen=True):
    source: str
    id: str


Name = Annotated[str, msgspec.Meta(min_length=1)]


class Foreign(msgspec.Struct, frozen=True):
    """Anybody's CloudEvent: the attributes that the standard requires, those it knows, and the data undecoded."""

    id: Name
    source: Name
    type: Name
    specversion: Literal["1.0"]
    subject: str | None = None
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    sequence: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


def command_fields(command: Command) -> dict[str, str]:
    """What a line of a log says of a command: its operation, and the request that asked for it."""
    return {"operation": str(command.operation)} | ({"request": command.requestid} if command.requestid else {})


def sequence(life: int, offset: int, index: int) -> str:
    """Text that grows with (life of the command topic, command offset, index of the event)."""
    return f"{life:06d}.{offset:019d}.{index:05d}"


_is_sequence = re.compile(r"[0-9]{6}\.[0-9]{19}\.[0-9]{5}").fullmatch


def source_of(owner: str) -> str:
    """`source` of the events that the owner of a noun writes."""
    return f"/yeoul/{owner}"


def check_source(owner: str, event: Any) -> None:
    """Raises Unreadable unless the event names its topic's owner as its source."""
    if event.source != source_of(owner):
        raise Unreadable("wrong_shape", f"the source of an event here is {source_of(owner)!r}")


def check_written_by(owner: str, event: Any) -> None:
    """Raises Unreadable unless the event is one as its topic's owner writes it.

    Any other `sequence` might compare above all that are to come, and every event after it would count as a repeat.
    """
    check_source(owner, event)
    if event.sequence is None or not _is_sequence(event.sequence):
        raise Unreadable("wrong_shape", "the sequence of an event here is life.offset.index, of 6, 19 and 5 digits")


# omit_defaults would drop specversion and datacontenttype, which the standard wants to see; they are put in front.
_PREFIX = b'{"specversion":"1.0","datacontenttype":"application/json",'
_encode = msgspec.json.Encoder().encode
_decode_command = msgspec.json.Decoder(Command).decode
_check_json = msgspec.json.Decoder(msgspec.Raw).decode
_foreign = msgspec.json.Decoder(Foreign)
_about = msgspec.json.Decoder(_About)
_identity = msgspec.json.Decoder(_Identity)


def write(message: Command | Event) -> bytes:
    """The JSON of a structured-mode CloudEvent."""
    return _PREFIX + _encode(message)[1:]


def read_command(value: bytes | None) -> Command:
    """A command from a record's value; raises Unreadable."""
    command: Command = _read(value, _decode_command)
    return command


def subject_of(value: bytes | None) -> UUID | None:
    """What an event of ours is about, whatever else is wrong with it; None where nothing of the kind can be read."""
    try:
        about: _About = _read(value, _about.decode)
    except Unreadable:
        return None
    return about.subject


def is_same(value: bytes | None, other: bytes | None) -> bool:
    """Whether both are one event of ours, though one of them may have lost its contents to an erasure."""
    try:
        found: bool = _read(value, _identity.decode) == _read(other, _identity.decode)
    except Unreadable:
        return False
    return found


def read_foreign(record: ConsumerRecord) -> Foreign:
    """Anybody's CloudEvent, structured or binary; raises Unreadable."""
    event: Foreign = read_foreign_as(record, _foreign)
    return event


def read_foreign_as(record: ConsumerRecord, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """As `read_foreign`, as another struct with attributes of a CloudEvent; raises Unreadable."""
    if is_binary(record):
        return _read_binary(record, decoder)
    return _read(record.value, decoder.decode)


def is_binary(record: ConsumerRecord) -> bool:
    """True if its headers are the attributes of a CloudEvent."""
    return any(name == "ce_specversion" for name, _value in record.headers) if record.headers else False


def read_plain_as(value: bytes, attributes: dict[str, str], decoder: "msgspec.json.Decoder[Any]") -> Any:
    """As `read_foreign_as`, of a JSON text that is the data, with attributes from elsewhere; raises Unreadable."""
    return _read(_encode({"specversion": "1.0", **attributes, "data": msgspec.Raw(value)}), decoder.decode)


def _read_binary(record: ConsumerRecord, decoder: "msgspec.json.Decoder[Any]") -> Any:
    attributes: dict[str, Any] = {}
    try:
        for name, value in record.headers:
            if name.startswith("ce_"):
                if value is None:
                    raise Unreadable("not_a_cloudevent", f"the header {name!r} has no value")
                attributes[name[3:]] = value.decode()
        # The data may be of any kind: JSON goes in as it is, anything else as null.
        if record.value is not None and _is_json(record.value):
            attributes["data"] = msgspec.Raw(record.value)
        return decoder.decode(_encode(attributes))
    except UnicodeDecodeError as error:
        raise Unreadable("not_utf8", f"a ce_ header is not UTF-8: {error.reason}") from None
    except msgspec.ValidationError as error:
        raise Unreadable("not_a_cloudevent", str(error)) from None


def _is_json(value: bytes) -> bool:
    try:
        _check_json(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _read(value: bytes | None, decode: Any) -> Any:
    if value is None:
        raise Unreadable("tombstone", "the record has no value")
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        raise Unreadable("wrong_shape", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("not_json", str(error)) from None
    except RecursionError:
        raise Unreadable("too_deep", "the JSON is nested too deeply") from None
