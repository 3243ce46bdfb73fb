"""The product as streams.* measures it: workers of the group `analytics`, in a database of their own for each run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bench import hour, rivals
from bench.processes import READY_S, Child, run
from bench.records import Sample
from bench.scene import PREFIX, TOPIC, Scene, Watched
from bench.stage import Costs, Stage

METRIC = "by_type"
METRICS = f"""\
[metrics.{METRIC}]
events = ["*"]
group_by = ["type"]
windows = {{ minute = "2d" }}
lateness = "2h"
public = true
"""
YEOUL = rivals.ours("bench.yeoul_windows")


def environment(stage: Stage, postgres: str) -> dict[str, str]:
    """Variables of a worker that has just the one metric."""
    file = stage.logs / "metrics.toml"
    file.write_text(METRICS, encoding="utf-8")
    return {
        **stage.environ,
        "YEOUL_POSTGRES_URL": postgres,
        "YEOUL_METRICS_FILE": str(file),
        "YEOUL_TOPIC_PREFIX": PREFIX,
    }


class Yeoul:
    """The product in a database of its own."""

    def __init__(self, scene: Scene, environ: dict[str, str]) -> None:
        self.scene = scene
        self.environ = environ

    @classmethod
    async def fresh(cls, scene: Scene) -> "Yeoul":
        """Empty tables."""
        stage = scene.stage
        environ = environment(stage, await stage.database("bench_windows"))
        await run("migrate", ["cli", "migrate"], environ, stage.logs, READY_S)
        return cls(scene, environ)

    @asynccontextmanager
    async def worker(self, name: str) -> AsyncIterator[Watched]:
        """One worker process with the group `analytics`."""
        child = await Child.start(
            name, YEOUL.arguments, self.environ, self.scene.stage.logs, follow=True, program=YEOUL.program
        )
        try:
            yield Watched(self.scene, child)
        finally:
            await child.stop()

    async def check(self, name: str) -> None:
        """Compare what stands in PostgreSQL. Raises `SystemExit`."""
        connection = await asyncpg.connect(self.environ["YEOUL_POSTGRES_URL"])
        try:
            rows = await connection.fetch(
                """SELECT extract(epoch FROM start)::bigint AS start, grp::jsonb ->> 0 AS type, sum(n)::bigint AS n
                   FROM metric_minutes WHERE measure = 'count' AND grp <> '' GROUP BY 1, 2"""
            )
            stands = await connection.fetchval("SELECT sum(next_offset) FROM progress WHERE topic = $1", TOPIC)
        finally:
            await connection.close()
        if stands != self.scene.records:
            raise SystemExit(f"{name} stands at {stands} of {self.scene.records:,} records")
        found = hour.counts_of((row["start"], row["type"], row["n"]) for row in rows)
        hour.check(name, found, hour.expected(self.scene.stage.options.events, self.scene.start))


async def yeoul(scene: Scene) -> Sample:
    """One worker, to the last committed batch."""
    product = await Yeoul.fresh(scene)
    async with product.worker("yeoul") as watched:
        async for line in watched.lines():
            if line["seen"] >= scene.records:
                sample = watched.sample("yeoul", line["seen"], line["ended"] - line["began"])
                break
    await product.check("yeoul")
    watched.exact()
    return sample


async def two(scene: Scene) -> Sample:
    """Two workers on the same tables: from when both have committed something to the last batch of either."""
    product = await Yeoul.fresh(scene)
    async with product.worker("yeoul one") as one, product.worker("yeoul two") as other:
        sample = await Both(scene, (one, other)).watched()
    await product.check("two workers")
    one.exact()
    return sample


class Both:
    """Two workers that share the partitions."""

    def __init__(self, scene: Scene, workers: tuple[Watched, Watched]) -> None:
        self.scene = scene
        self.workers = workers
        self.last: dict[Watched, dict[str, float]] = {}
        self.shared_at = 0.0
        self.before = 0.0
        self.costs: Costs | None = None

    async def watched(self) -> Sample:
        """Until everything is counted. Raises `SystemExit` if one of them had nothing to do."""
        done = asyncio.Event()

        async def follow(worker: Watched) -> None:
            async for line in worker.lines():
                self._note(worker, line)
                if sum(line["seen"] for line in self.last.values()) >= self.scene.records:
                    done.set()
                if done.is_set():
                    return

        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(follow(worker))
        if self.costs is None:
            raise SystemExit("one of two workers counted everything before the other began: send more events")
        ended = max(line["ended"] for line in self.last.values())
        first = self.workers[0]
        first.costs, first.most_mb = self.costs, sum(worker.most_mb for worker in self.workers)
        return first.sample("two workers", self.scene.records - self.before, ended - self.shared_at)

    def _note(self, worker: Watched, line: dict[str, float]) -> None:
        self.last[worker] = line
        seen = [line["seen"] for line in self.last.values()]
        if self.costs is None and len(seen) == len(self.workers) and all(seen):
            self.before, self.shared_at = sum(seen), line["at"]
            self.costs = self.scene.stage.costs([each.child.pid for each in self.workers])
