"""write.* and read.*: both fronts under the same load, one after the other, again and again."""

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence

import msgspec

from bench.figures import CREATE32, GET32, LATENCY1, Figure
from bench.load import Outcome, Plan
from bench.processes import ROOT, resident_mb
from bench.records import Record, Sample, compare
from bench.sides import Direct, Side, Yeoul
from bench.stage import Stage

GENERATOR = (sys.executable, "-m", "bench.load")
MARGIN_S = 30.0
WARM_S = 5.0
MOST_ERRORS = 0.02
"""A larger share of other answers, and the rate would mean something else."""
Requests = Sequence[tuple[str, str, str]]


async def drive(plan: Plan) -> Outcome:
    """Run the generator once, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *GENERATOR, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        limit = plan.warmup_s + plan.seconds + plan.drain_s + MARGIN_S
        async with asyncio.timeout(limit):
            out, _ = await process.communicate(msgspec.json.encode(plan))
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    if process.returncode:
        raise SystemExit(f"the load generator ended with {process.returncode}")
    return msgspec.json.decode(out, type=Outcome)


async def sample(
    stage: Stage, side: Side, figure: Figure, requests: Requests, seconds: float, items: int | None = None
) -> Sample:
    """One run of one side; each answer has `items` rows."""
    plan = Plan(
        port=side.port,
        connections=figure.callers,
        requests=list(requests),
        headers=await side.headers(),
        expect=side.created if requests[0][0] == "POST" else 200,
        items=items,
        seconds=seconds,
    )
    costs = stage.costs(side.pids)
    outcome = await drive(plan)
    if sum(outcome.errors.values()) > MOST_ERRORS * outcome.count:
        raise SystemExit(f"{figure.id}: {side.name} answered {outcome.count} as expected, errors: {outcome.errors}")
    result = Sample(
        value=outcome.p50_ms if figure is LATENCY1 else outcome.rate,
        cpu=1000 * costs.seconds() / max(outcome.total, 1),
        resident_mb=resident_mb(side.pids),
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        errors=outcome.errors,
    )
    errors = f", errors {outcome.errors}" if outcome.errors else ""
    stage.say(
        f"{figure.id:16} {side.name:16} {outcome.rate:8,.0f}/s  p50 {outcome.p50_ms:7.2f} ms  "
        f"p99 {outcome.p99_ms:7.2f} ms{errors}"
    )
    return result


async def rounds(
    stage: Stage, figure: Figure, sides: Mapping[str, tuple[Side, Requests]], items: int | None = None
) -> dict[str, list[Sample]]:
    """Rounds of `figure`: each side once, one right after the other; each answer has `items` rows."""
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    for _ in range(stage.options.runs):
        for name, (side, requests) in sides.items():
            samples[name].append(await sample(stage, side, figure, requests, stage.options.seconds, items))
    return samples


async def measure(stage: Stage, wanted: Sequence[Figure]) -> list[Record]:
    """Start both fronts (and the direct one's variants), warm them, measure the wanted figures."""
    yeoul, direct, unreset, bare = Yeoul(stage), Direct(stage), Direct(stage, "no-reset"), Direct(stage, "bare")
    sides: tuple[Side, ...] = (yeoul, direct, unreset, bare)
    records = []
    try:
        for side in sides:
            await side.start()
        stage.say("fronts are up; warming them")
        for side in sides:
            await sample(stage, side, CREATE32, side.creates(), min(WARM_S, stage.options.seconds))
        for figure in wanted:
            requests: dict[str, Requests] = {side.name: side.creates() for side in sides}
            if figure is GET32:
                stage.say(f"creating {stage.options.rows:,} rows in each")
                requests = {side.name: await _reads(side, stage.options.rows) for side in sides}
            named = {
                "yeoul": (yeoul, requests[yeoul.name]),
                "baseline": (direct, requests[direct.name]),
                "direct front without reset query": (unreset, requests[unreset.name]),
                "direct front without lists and search": (bare, requests[bare.name]),
            }
            records.append(compare(figure, await rounds(stage, figure, named)))
    finally:
        await asyncio.gather(*(side.stop() for side in sides))
    return records


async def _reads(side: Side, rows: int) -> Requests:
    """Reads of `rows` fresh resources, in a random order that is the same in every run."""
    requests = await side.preload(rows)
    random.Random(rows).shuffle(requests)
    return requests
