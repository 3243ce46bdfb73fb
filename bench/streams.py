"""stream.batch: two million events through Yeoul's batch transport, a stock Faust agent, and plain aiokafka."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.figures import BATCH, Figure
from bench.processes import READY_S, Child, resident_mb, run
from bench.records import Record, Sample, compare
from bench.stage import Costs, Stage
from bench.stream_topic import PARTITIONS

PREFIX = "bench"
TOPIC = f"{PREFIX}.events"
FILLERS = ("0,2", "1,3")
FILL_S = 300.0
QUIET_S = 60.0
SETTLE_S = 3.0
"""The first seconds of a slow stream (group, first fetch) are not its steady state."""
YEOUL = ["bench.yeoul_stream"]
STOCK = ["bench.baselines.stock_faust"]
PLAIN = ["bench.baselines.plain_aiokafka"]


async def create_and_fill(stage: Stage) -> None:
    """Create the topic and send the events, once a bench run."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    finally:
        await admin.close()
    await fill(stage, ["bench.stream_topic", "--topic", TOPIC], stage.options.events)


async def fill(stage: Stage, program: list[str], total: int) -> None:
    """Send events by two processes of `program`, each half of the partitions; `total` records have to be sent."""
    sent = dict.fromkeys(FILLERS, 0)

    async def follow(only: str) -> None:
        arguments = [*program, "--kafka", stage.kafka, "--events", str(stage.options.events), "--only", only]
        filler = await Child.start(f"fill-{only[0]}", arguments, {}, stage.logs, follow=True)
        try:
            async for line in filler.lines(QUIET_S):
                before = sum(sent.values()) * 4 // total
                sent[only] = int(line["sent"])
                if sum(sent.values()) * 4 // total > before:
                    stage.say(f"{sum(sent.values()):,} of {total:,} events sent")
        finally:
            await filler.kill()

    async with asyncio.timeout(FILL_S), asyncio.TaskGroup() as group:
        for only in FILLERS:
            group.create_task(follow(only))
    if sum(sent.values()) != total:
        raise SystemExit(f"{sum(sent.values()):,} events were sent instead of {total:,}")


async def whole(stage: Stage, name: str, program: list[str], options: list[str]) -> Sample:
    """Read the topic to its end; from the handling of the first batch (not counted) to that of the last."""
    child = await _start(stage, name, program, options)
    costs = stage.costs([child.pid])
    total = stage.options.events
    try:
        async for line in _moving(child):
            if line["seen"] > total:
                raise SystemExit(f"{name} counted {line['seen']:,.0f} events of {total:,}")
            if line["seen"] == total:
                return _sample(stage, name, total - line["first"], line["ended"] - line["began"], costs, child)
    finally:
        await child.stop()
    raise child.failure("ended before the last event")


async def steady(stage: Stage, name: str, program: list[str], options: list[str]) -> Sample:
    """Watch a slow reader for `steady_s` seconds, once it has settled; then end it."""
    child = await _start(stage, name, program, options)
    started = 0.0
    window: tuple[dict[str, float], Costs] | None = None
    try:
        async for line in _moving(child):
            if line["seen"] >= stage.options.events:
                raise SystemExit(f"{name} has read everything before it was steady: send more events")
            if line["seen"]:
                started = started or line["at"]
            if window is None and started and line["at"] - started >= SETTLE_S:
                window = line, stage.costs([child.pid])
            if window is not None and line["at"] - window[0]["at"] >= stage.options.steady_s:
                seen, seconds = line["seen"] - window[0]["seen"], line["at"] - window[0]["at"]
                return _sample(stage, name, seen, seconds, window[1], child)
    finally:
        await child.stop()
    raise child.failure("ended before it was steady")


async def _moving(child: Child) -> AsyncIterator[dict[str, float]]:
    """The lines of a reader. Raises `ChildError` when it sees nothing new for `QUIET_S` seconds."""
    seen, since = -1.0, 0.0
    async for line in child.lines(QUIET_S):
        if line["seen"] != seen:
            seen, since = line["seen"], line["at"]
        elif line["at"] - since > QUIET_S:
            raise child.failure(f"stays at {seen:,.0f} events")
        yield line


def _sample(stage: Stage, name: str, seen: float, seconds: float, costs: Costs, child: Child) -> Sample:
    stage.say(f"{BATCH.id:16} {name:16} {seen / seconds:8,.0f}/s  {seen:,.0f} events in {seconds:.1f} s")
    return Sample(
        value=seen / seconds, cpu=1_000_000 * costs.seconds() / max(seen, 1), resident_mb=resident_mb([child.pid])
    )


async def _start(stage: Stage, name: str, program: list[str], options: list[str]) -> Child:
    arguments = [*program, "--kafka", stage.kafka, "--topic", TOPIC, *options]
    environ = {**stage.environ, "YEOUL_TOPIC_PREFIX": PREFIX}
    return await Child.start(name, arguments, environ, stage.logs, follow=True)


async def measure(stage: Stage, _wanted: Sequence[Figure]) -> list[Record]:
    """Fill the topic, then rounds of Yeoul, stock Faust and plain aiokafka."""
    await run("migrate", ["cli", "migrate"], stage.environ, stage.logs, READY_S)
    await create_and_fill(stage)
    samples: dict[str, list[Sample]] = {"yeoul": [], "baseline": [], "plain aiokafka": []}
    for _ in range(stage.options.runs):
        group = ["--group", f"bench-{uuid4().hex}"]
        samples["yeoul"].append(await whole(stage, "batch transport", YEOUL, group))
        samples["baseline"].append(
            await steady(stage, "stock faust", STOCK, [*group, "--data", str(stage.logs / "faust")])
        )
        samples["plain aiokafka"].append(await whole(stage, "plain aiokafka", PLAIN, []))
    return [compare(BATCH, samples)]
