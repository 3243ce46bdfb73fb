"""What the programs of streams.* have in common: the topic as it was filled, and a program that is watched."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import topics
from bench import hour
from bench.processes import Child, resident_mb
from bench.records import Sample
from bench.rivals import Program
from bench.stage import Costs, Stage
from bench.streams import QUIET_S

PREFIX = "hour"
TOPIC = topics.INGEST.full_name(PREFIX)


@dataclass(frozen=True)
class Scene:
    """The topic as it was filled."""

    stage: Stage
    start: datetime

    @property
    def records(self) -> int:
        """Records in the topic."""
        return hour.records(self.stage.options.events)

    def group(self) -> list[str]:
        """Options of a program that has a group, a new one for each run, and a folder for its state."""
        group = f"bench-{uuid4().hex}"
        return ["--group", group, "--data", str(self.stage.logs / group)]


class Watched:
    """A running program: its lines, what it cost since it began, and the most memory that it had."""

    def __init__(self, scene: Scene, child: Child) -> None:
        self.scene = scene
        self.child = child
        self.started = time.monotonic()
        self.began_at = 0.0
        self.most_mb = 0.0
        self.costs: Costs | None = None
        self._told = ""

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Its lines. Raises `ChildError` when it sees nothing new for `QUIET_S` seconds, or ends before the last."""
        seen, since = -1, 0.0
        async for line in self.child.lines(QUIET_S):
            self.most_mb = max(self.most_mb, resident_mb([self.child.pid]))
            if line["began"] and self.costs is None:
                self.costs, self.began_at = self.scene.stage.costs([self.child.pid]), line["began"]
            if line["seen"] != seen:
                seen, since = line["seen"], line["at"]
            elif line["at"] - since > QUIET_S:
                raise self.child.failure(f"stays at {seen:,} events")
            yield line
            if line.get("done"):
                return
        raise self.child.failure("ended before it had counted everything")

    def sample(self, name: str, counted: float, seconds: float) -> Sample:
        """What the run was; it is told by `exact`, once the counts were compared."""
        cpu = 1_000_000 * (self.costs.seconds() if self.costs else 0.0) / max(counted, 1)
        self._told = (
            f"{'streams':16} {name:16} {counted / seconds:8,.0f}/s  {counted:,.0f} events in {seconds:.1f} s, exact; "
            f"start-up {self.began_at - self.started:.1f} s, {cpu:.1f} CPU s per million, {self.most_mb:.0f} MB"
        )
        return Sample(value=counted / seconds, cpu=cpu, resident_mb=self.most_mb)

    def exact(self) -> None:
        """The counts of the run are right: tell of it."""
        self.scene.stage.say(self._told)


@asynccontextmanager
async def started(scene: Scene, name: str, program: Program, options: Sequence[str]) -> AsyncIterator[Watched]:
    """A program that reads the topic; it is stopped at the end."""
    arguments = [*program.arguments, *options]
    child = await Child.start(name, arguments, {}, scene.stage.logs, follow=True, program=program.program)
    try:
        yield Watched(scene, child)
    finally:
        await child.stop()
