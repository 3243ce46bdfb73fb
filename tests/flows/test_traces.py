"""A command is followed from the request to its event, over real servers and processes of their own."""

import asyncio
import json

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.flows.harness import System, until
from tests.telemetry.listeners import listening

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTE = {"kind": "note", "title": "first"}
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
TOPIC = "commands.resources"
NEW = {"email": "Minsu@example.org", "password": "rapids of a river", "name": "김민수", "phone": "+82 10 1234 5678"}
WRITTEN = ("minsu", "rapids", "1234 5678", "blue boat", "lighthouse")


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


class Somebody:
    """Keeps the tokens that it was given."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.tokens: list[str] = []

    async def ask(self, path: str, body: object, **headers: str) -> int:
        headers |= {"User-Agent": "Lighthouse/7", "Prefer": "wait=30"}
        url = self._url + path
        async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
            data = (await answer.json()).get("data") or {}
            self.tokens.extend(data[name] for name in ("access_token", "refresh_token") if name in data)
            return answer.status

    async def everything(self) -> None:
        """Logs in, writes and is refused, after it has registered."""
        login = {name: NEW[name] for name in ("email", "password")}
        assert await self.ask("/auth/register", NEW) == 409
        assert await self.ask("/auth/register", NEW | {"email": "minsu", "rapids": 1}) == 400
        assert await self.ask("/auth/login", login) == 200
        assert await self.ask("/auth/login", login | {"password": "rapids of a brook"}) == 401
        bearer = {"Authorization": f"Bearer {self.tokens[0]}", "Idempotency-Key": "minsu"}
        assert await self.ask("/resources", NOTE | {"title": "a blue boat"}, **bearer) == 201
        assert await self.ask("/resources?minsu=1", {"title": ["a blue boat"]}, **bearer) == 400
        assert await self.ask("/auth/refresh", {"refresh_token": self.tokens[1]}) == 200
        assert await self.ask("/minsu", {}, **bearer) == 404


async def test_from_the_request_to_the_event(installation: System) -> None:
    with listening() as collector:
        worker, front = installation.worker(), installation.front(processes=1)
        for process in (worker, front):
            process.more(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{collector.address}", YEOUL_LOG_LEVEL="debug")
        await asyncio.gather(worker.start(), front.start())
        somebody = Somebody(installation.url_of(front))
        assert await somebody.ask("/auth/register", NEW) == 201
        bearer = {"Authorization": f"Bearer {somebody.tokens[0]}"}
        assert await somebody.ask("/resources", NOTE, traceparent=TRACE, tracestate="vendor=1", **bearer) == 201
        await installation.until_published()  # it is answered first
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

        await somebody.everything()
        assert len(somebody.tokens) == 6
        await asyncio.gather(worker.stop(), front.stop())
        for log in (front.log, worker.log):
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            assert {"debug", "info"} <= {line["level"] for line in lines}
            told = log.read_text().lower()
            parts = [part.lower() for token in somebody.tokens for part in (token, token.rpartition(".")[2])]
            assert [word for word in (*WRITTEN, *parts) if word in told or json.dumps(word)[1:-1] in told] == []
        assert f'"trace_id":"{"a" * 32}","span_id":"{server["id"]}"' in front.log.read_text()
        assert front.log.read_text().count('"POST /api/v1/auth/register ') == 3
        for _, _, body in collector.requests:
            assert [word for word in WRITTEN if word.encode() in body.lower()] == []
