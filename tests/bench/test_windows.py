"""The bench of the windowed counts at a tiny size, on real servers: what it compares is exact, on both sides."""

from pathlib import Path

import pytest

from bench import freshness, hour, windows
from bench.figures import FRESH, FRESH_P99, PLAIN, TWO_CPU, Options
from bench.records import compare
from bench.stage import Stage
from embedded.stack import Stack

EVENTS = 8_000


@pytest.fixture
def stage(stack: Stack, cache_dir: Path, tmp_path: Path) -> Stage:
    options = Options(runs=1, events=EVENTS, seconds=1.0)
    return Stage(options, dict(stack.settings_environ), tmp_path, stack, cache_dir)


async def test_yeoul_and_plain_aiokafka_count_the_same_hour(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = {}

    def check(name: str, found: hour.Counts, wanted: hour.Counts) -> None:
        checked[name] = found
        assert found == wanted

    monkeypatch.setattr(hour, "check", check)
    (record,) = await windows.measure(stage, [PLAIN])
    assert {name: sum(found.values()) for name, found in checked.items()} == {"yeoul": EVENTS, "plain aiokafka": EVENTS}
    assert record.id == PLAIN.id
    assert record.runs == 1
    assert record.ratio is not None
    assert record.resident_mb.keys() == {"yeoul", "baseline"}


async def test_every_event_is_seen_by_who_watches(stage: Stage) -> None:
    fresh, p99 = await freshness.measure(stage, [FRESH, FRESH_P99])
    assert fresh.yeoul is not None
    assert p99.yeoul is not None
    assert 0 < fresh.yeoul <= p99.yeoul


def test_a_program_that_cannot_be_had_is_a_row_with_the_reason() -> None:
    record = compare(TWO_CPU, {"yeoul": [], "baseline": []}, note="left out: no wheels for this Python")
    assert record.met is None
    assert "left out" in record.note
