"""The Yeoul side of streams.*: a worker with the group `analytics`, as `./yeoul worker analytics` runs it.

Nothing is left out and nothing changed: events of `ingest`, repeats dropped, one transaction in PostgreSQL for the
counts of a batch and its progress. It is only watched: when the first records are decoded, and when one is committed.
"""

import argparse
import copy
from collections.abc import Sequence
from time import monotonic
from typing import Any

from aiokafka.structs import ConsumerRecord

import config
import worker
from agents import analytics
from agents.analytics import MetricTables
from bench.baselines.reporting import Meter
from config.metrics import load
from stores.progress import Move
from streams.groups import Connections
from streams.work import Work


class Watched(MetricTables):
    """The handler of the group, watched."""

    meter = Meter()

    def decode_all(self, records: Sequence[ConsumerRecord]) -> list[Any] | None:
        """See MetricTables; notes when the first records came."""
        self.meter.began = self.meter.began or monotonic()
        return super().decode_all(records)

    async def commit(self, work: Work, moves: list[Move]) -> Any:
        """See Reader; counts what is committed."""
        result = await super().commit(work, moves)
        self.meter.seen += work.count
        self.meter.ended = monotonic()
        return result


def _build(connections: Connections, group: str) -> MetricTables:
    return Watched(connections, group, load(connections.settings.metrics_file))


def main() -> None:
    """Settings come from the environment, as for any worker; until SIGTERM."""
    argparse.ArgumentParser(description="a worker with the group analytics, watched").parse_args()
    watched = copy.copy(analytics.GROUP)  # as it ships, but for who makes its handler
    watched._build = _build
    worker.GROUPS[watched.name] = watched
    Watched.meter.report(0.1)
    raise SystemExit(worker.run(config.load(config.process_environ()), [watched.name]))


if __name__ == "__main__":
    main()
