"""Kafka requests of our own: three that aiokafka 0.14 does not speak, and a look at raw bytes that it can't take apart.

Metadata v12 tells topic ids, LeaveGroup v3 takes static members, IncrementalAlterConfigs v0 changes one setting and
leaves the others. Source of their layouts: the message definitions of Apache Kafka, `MetadataRequest.json`,
`LeaveGroupRequest.json` and `IncrementalAlterConfigsRequest.json`.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)
from aiokafka.record.memory_records import MemoryRecords


class Uuid(AbstractType[UUID]):
    """16 bytes, big endian."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        """To the wire."""
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        """From the wire."""
        return UUID(bytes=data.read(16))


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIds(Request[_MetadataRequest]):
    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class([(UUID(int=0), name, {}) for name in self._names], False, False, {})


class _LeaveResponse(Response):
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")), ("error_code", Int16)),
        ),
    )


class _LeaveRequest(RequestStruct):
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveResponse
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("members", Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))),
    )


class _Leave(Request[_LeaveRequest]):
    API_KEY = 13

    def __init__(self, group: str, member: str, instance: str) -> None:
        self._arguments: tuple[Any, ...] = (group, [(member, instance)])

    def build(self, request_struct_class: type[_LeaveRequest]) -> _LeaveRequest:
        return request_struct_class(*self._arguments)


class _AlterResponse(Response):
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _AlterRequest(RequestStruct):
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlterResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("configs", Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8")))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Alter(Request[_AlterRequest]):
    API_KEY = 44

    def __init__(self, topic: str, configs: Mapping[str, str]) -> None:
        self._arguments: tuple[Any, ...] = (
            [(_TOPIC, topic, [(name, _SET, value) for name, value in configs.items()])],
            False,
        )

    def build(self, request_struct_class: type[_AlterRequest]) -> _AlterRequest:
        return request_struct_class(*self._arguments)


_TOPIC, _SET = 2, 0


class TopicInfo:
    """What the broker says of a topic now: `id` (None while it does not exist) and the number of `partitions`."""

    __slots__ = ("id", "partitions")

    def __init__(self, topic_id: UUID | None, partitions: int) -> None:
        self.id = topic_id
        self.partitions = partitions


_UNKNOWN_TOPIC = 3


async def topic_info(client: AIOKafkaClient, names: list[str]) -> dict[str, TopicInfo]:
    """Ids and partition counts of the topics named. Raises KafkaError when no broker answers."""
    node = client.get_random_node()
    if node is None:
        await client.force_metadata_update()
        node = client.get_random_node()
    response = await client.send(node, _TopicIds(names))
    found: dict[str, TopicInfo] = {}
    for error, name, topic_id, _internal, partitions, _operations, _tags in response.topics:
        if error == _UNKNOWN_TOPIC:
            found[name] = TopicInfo(None, 0)
        elif error:
            raise for_code(error)(f"metadata of {name}")
        else:
            found[name] = TopicInfo(topic_id, len(partitions))
    return found


async def leave_group(client: AIOKafkaClient, coordinator: int, group: str, member: str, instance: str) -> None:
    """A static member says good-bye, so that the others take over at once instead of after its session."""
    response = await client.send(coordinator, _Leave(group, member, instance))
    errors = [response.error_code, *(error for _member, _instance, error in response.members)]
    for error in errors:
        if error:
            raise KafkaError(f"the group coordinator refused: {for_code(error).__name__}")


async def set_topic_configs(client: AIOKafkaClient, topic: str, configs: Mapping[str, str]) -> None:
    """Set some settings of a topic and leave its others. Raises KafkaError."""
    response = await client.send(client.get_random_node(), _Alter(topic, configs))
    for error, message, _type, name in response.responses:
        if error:
            raise KafkaError(f"{name} can't be set to {dict(configs)}: {for_code(error).__name__} {message or ''}")


_READ_COMMITTED = 1
_FETCH_BYTES = 1 << 20
"""A record batch that is larger comes whole if it is the first."""


async def end_of_broken(client: AIOKafkaClient, partition: TopicPartition, offset: int) -> int | None:
    """The offset behind the first record batch from `offset` on that can't be taken apart; None if all of them can.

    Raises KafkaError.
    """
    leader = client.cluster.leader_for_partition(partition)
    wanted = [(partition.topic, [(partition.partition, offset, _FETCH_BYTES)])]
    response = await client.send(leader, FetchRequest(1000, 1, _FETCH_BYTES, _READ_COMMITTED, wanted))
    ((_topic, ((_partition, error, *_more, raw),)),) = response.topics
    if error:
        raise for_code(error)(f"{partition.topic}/{partition.partition} at {offset}")
    batches = MemoryRecords(raw)
    while batches.has_next():
        batch = batches.next_batch()
        end: int = batch.next_offset
        try:
            if not batch.validate_crc():
                return end
            for _record in batch:
                pass
        except Exception:  # whatever the parser says
            return end
    return None
