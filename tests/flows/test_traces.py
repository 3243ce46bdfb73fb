"""A command is followed from the request to its event, over real servers and processes of their own."""

import asyncio

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.flows.harness import System, until
from tests.telemetry.listeners import listening

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTE = {"kind": "note", "title": "first"}
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
TOPIC = "commands.resources"


async def headers_of_commands(installation: System) -> list[dict[str, bytes]]:
    name = f"{installation.settings.topic_prefix}.{TOPIC}"
    async with AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka_url) as consumer:
        partitions = [TopicPartition(name, number) for number in range(4)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        found: list[dict[str, bytes]] = []
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [dict(record.headers) for record in records]
    return found


async def test_from_the_request_to_the_event(installation: System) -> None:
    with listening() as collector:
        worker, front = installation.worker(), installation.front()
        for process in (worker, front):
            process.more(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{collector.address}", YEOUL_LOG_LEVEL="info")
        await asyncio.gather(worker.start(), front.start())
        headers = {
            "Authorization": f"Bearer {await installation.token()}", "Prefer": "wait=30",
            "traceparent": TRACE, "tracestate": "vendor=1",
        }  # fmt: skip
        url = installation.url_of(front) + "/resources"
        async with aiohttp.ClientSession() as session, session.post(url, json=NOTE, headers=headers) as response:
            assert response.status == 201
        ((event,), _) = await installation.events()
        (sent,) = await headers_of_commands(installation)

        async def all_there() -> bool:
            return len([span for span in collector.spans() if span["trace"] == "a" * 32]) == 4

        await until(all_there, 30, "four spans at the collector")
        found = {span["name"]: span for span in collector.spans() if span["trace"] == "a" * 32}
        topic = f"{installation.settings.topic_prefix}.{TOPIC}"
        server, send = found["POST /api/v1/resources"], found[f"send {topic}"]
        process_, commit = found[f"process {topic}"], found["COMMIT postgresql"]
        assert server["parent"] == "b" * 16
        assert (send["parent"], process_["parent"], commit["parent"]) == (server["id"], send["id"], process_["id"])
        assert (server["service"], process_["service"]) == ("yeoul-web", "yeoul-worker")
        assert sent["traceparent"] == f"00-{'a' * 32}-{send['id']}-01".encode()
        assert sent["tracestate"] == b"vendor=1"
        assert (event["traceparent"], event["tracestate"]) == (f"00-{'a' * 32}-{process_['id']}-01", "vendor=1")
        assert f'"trace_id":"{"a" * 32}","span_id":"{server["id"]}"' in front.log.read_text()
