"""streams.*: events by type and minute, of two million spread over an hour, beside other stream processors.

Everybody counts the same records of the same broker with one process, and holds to one rule: the clock runs from the
first record consumed to the last result kept, wherever the program keeps it; start-up comes before, and is told apart.
(Only the stock Faust agent is so slow that it is watched for `steady_s` seconds.) After every run the counts are
compared with what they have to be, window by window. CPU is that of the program and of the servers that it makes work;
memory is the most that the program had resident at any time of the run.

Yeoul is the product: group `analytics` with such a metric, exactly-once into a database of its own for each run.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaConsumer

from bench import hour, rivals
from bench.figures import BYTEWAX, FAUST, KAFKA_STREAMS, PLAIN, QUIX, TWO, TWO_CPU, Figure
from bench.processes import READY_S, run
from bench.product import environment, two, yeoul
from bench.records import Record, Sample, compare
from bench.rivals import Program, Unavailable
from bench.scene import TOPIC, Scene, started
from bench.stage import Stage
from bench.streams import SETTLE_S, fill


async def counted(scene: Scene, name: str, program: Program, options: Sequence[str], out: str = "") -> Sample:
    """A program that counts everything, tells it (or writes it to the topic `out`), and ends."""
    async with started(scene, name, program, options) as watched:
        async for line in watched.lines():
            if line.get("done"):
                sample = watched.sample(name, line["seen"], line["ended"] - line["began"])
                rows = await _results(scene.stage.kafka, out) if out else line["rows"]
    found = hour.counts_of(rows)
    hour.check(name, found, hour.expected(scene.stage.options.events, scene.start))
    watched.exact()
    return sample


async def _results(kafka: str, topic: str) -> list[tuple[int, str, int]]:
    """What Quix Streams has written: a record for each window that is over."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    rows = []
    try:
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(at) < ends[at] for at in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    window = orjson.loads(record.value)
                    rows.append((window["start"] // 1000, record.key.decode(), window["value"]))
    finally:
        await consumer.stop()
    return rows


async def faust(scene: Scene) -> Sample:
    """The stock agent, watched once it has settled; what it counted up to then is checked."""
    options = scene.stage.options
    settle = min(SETTLE_S, options.steady_s)
    arguments = _common(scene) + scene.group() + ["--settle", str(settle), "--seconds", str(options.steady_s)]
    async with started(scene, "stock faust", rivals.ours("bench.baselines.faust_windows"), arguments) as watched:
        async for line in watched.lines():
            if line["seen"] >= scene.records and not line.get("done"):
                raise SystemExit("stock faust has read everything before it was steady: send more events")
            if line.get("done"):
                sample = watched.sample("stock faust", line["seen"] - line["first"], line["ended"] - line["began"])
                found = hour.counts_of(line["rows"])
                hour.check("stock faust", found, hour.expected(options.events, scene.start, line["handled"]))
                watched.exact()
    return sample


def _common(scene: Scene) -> list[str]:
    return ["--kafka", scene.stage.kafka, "--topic", TOPIC]


async def quix(scene: Scene, program: Program) -> Sample:
    """Quix Streams; what it keeps is a topic."""
    out = f"bench.quix.{uuid4().hex}"
    options = [*_common(scene), *scene.group(), "--out", out, "--records", str(scene.records)]
    return await counted(scene, "quix streams", program, options, out)


async def bytewax(scene: Scene, program: Program) -> Sample:
    """Bytewax."""
    return await counted(scene, "bytewax", program, _common(scene))


async def kafka_streams(scene: Scene, program: Program) -> Sample:
    """Kafka Streams."""
    _, group, _, data = scene.group()
    options = [scene.stage.kafka, TOPIC, group, data, str(scene.records)]
    return await counted(scene, "kafka streams", program, options)


async def plain(scene: Scene) -> Sample:
    """Just aiokafka."""
    options = [*_common(scene), "--records", str(scene.records)]
    return await counted(scene, "plain aiokafka", rivals.ours("bench.baselines.aiokafka_windows"), options)


Side = Callable[[Scene], Awaitable[Sample]]


async def sides(scene: Scene, wanted: Sequence[Figure]) -> tuple[dict[str, Side], dict[str, str]]:
    """What is measured beside, by the id of its figure, and why some of it can't be."""
    found: dict[str, Side] = {}
    left_out: dict[str, str] = {}
    here = {FAUST.id: faust, PLAIN.id: plain, TWO.id: two}
    elsewhere = {
        QUIX.id: (rivals.quix, quix),
        BYTEWAX.id: (rivals.bytewax, bytewax),
        KAFKA_STREAMS.id: (rivals.kafka_streams, kafka_streams),
    }
    for figure in wanted:
        if figure.id in here:
            found[figure.id] = here[figure.id]
        elif figure.id in elsewhere:
            make, measure_it = elsewhere[figure.id]
            try:
                program = await make(scene.stage)
            except Unavailable as reason:
                scene.stage.say(f"{figure.id} is left out: {reason}")
                left_out[figure.id] = str(reason)
            else:
                found[figure.id] = _with(measure_it, program)
    if TWO_CPU in wanted:
        found.setdefault(TWO.id, two)
    return found, left_out


def _with(measure_it: Callable[[Scene, Program], Awaitable[Sample]], program: Program) -> Side:
    return lambda scene: measure_it(scene, program)


async def measure(stage: Stage, wanted: Sequence[Figure]) -> list[Record]:
    """Fill the topic, then rounds of Yeoul and whatever is beside it."""
    scene = Scene(stage, hour.begin(datetime.now(UTC)))
    beside, left_out = await sides(scene, wanted)
    await run("migrate", ["cli", "migrate"], stage.environ, stage.logs, READY_S)
    await run("topics", ["cli", "topics"], environment(stage, stage.postgres), stage.logs, READY_S)
    await fill(stage, ["bench.hour", "--topic", TOPIC, "--start", scene.start.isoformat()], scene.records)
    samples: dict[str, list[Sample]] = {"yeoul": [], **{id: [] for id in beside}}
    for _ in range(stage.options.runs):
        samples["yeoul"].append(await yeoul(scene))
        for id, side in beside.items():
            samples[id].append(await side(scene))
    return [_record(figure, samples, left_out.get(figure.id, "")) for figure in wanted]


def _record(figure: Figure, samples: dict[str, list[Sample]], left_out: str) -> Record:
    ours, note = samples["yeoul"], f"left out: {left_out}" if left_out else ""
    if figure == TWO:
        return compare(figure, {"yeoul": samples[TWO.id], "baseline": ours})
    if figure == TWO_CPU:
        both = {"yeoul": samples[TWO.id], "baseline": ours}
        return compare(figure, {side: [Sample(value=each.cpu) for each in of] for side, of in both.items()})
    return compare(figure, {"yeoul": ours, "baseline": samples.get(figure.id, [])}, note)
