import msgspec
import pytest

from bench.figures import FIGURES, Figure, Goal, selected
from bench.records import Sample, compare
from bench.table import table

RATE = Figure("write.create32", "creates/s", Goal(0.8), "the direct front")
START = Figure("worker.start", "s", Goal(3.0, of="yeoul", at_most=True), "")


def samples(*values: float) -> list[Sample]:
    return [Sample(value=value) for value in values]


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    record = compare(RATE, {"yeoul": samples(100, 300, 90), "baseline": samples(100, 100, 100)})
    assert (record.yeoul, record.baseline, record.ratio, record.runs) == (100, 100, 1.0, 3)
    assert record.spread == (0.9, 3.0)
    assert record.met is True


def test_a_ratio_below_its_goal_is_short() -> None:
    record = compare(RATE, {"yeoul": samples(70), "baseline": samples(100)})
    assert record.met is False
    assert "short" in table([record])


def test_without_a_baseline_the_value_itself_is_judged() -> None:
    record = compare(START, {"yeoul": samples(2.0, 2.5, 4.0)})
    assert (record.baseline, record.ratio, record.spread, record.met) == (None, None, (2.0, 4.0), True)


def test_further_sides_stand_beside() -> None:
    record = compare(RATE, {"yeoul": samples(120), "baseline": samples(100), "no reset": samples(150)})
    assert record.beside["no reset"].ratio == pytest.approx(0.8)


def test_a_record_has_the_keys_that_scripts_read() -> None:
    record = compare(RATE, {"yeoul": samples(120), "baseline": samples(100)})
    assert {"id", "unit", "yeoul", "baseline", "ratio", "runs"} <= msgspec.to_builtins(record).keys()


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["read"], ["read.get32"]),
        (["write.create"], ["write.create32", "write.create256"]),
        (["worker.memory", "stream"], ["stream.batch", "worker.memory"]),
        (["streams.fresh"], ["streams.fresh", "streams.fresh_p99"]),
        (["streams"], [figure.id for figure in FIGURES if figure.id.startswith("streams.")]),
        ([], [figure.id for figure in FIGURES]),
    ],
)
def test_names_select_by_prefix(names: list[str], ids: list[str]) -> None:
    assert [figure.id for figure in selected(names)] == ids


def test_a_name_of_no_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="no figure begins with 'speed'"):
        selected(["speed"])
