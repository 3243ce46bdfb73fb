"""Sketches: the same bytes for the same values, in any order and however divided; close to the truth; and bounded."""

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import sketches
from domain.sketches import (
    distinct,
    estimate_distinct,
    estimate_percentiles,
    hashes,
    merge_distinct,
    merge_percentiles,
    merge_top,
    percentiles,
    top,
)  # fmt: skip

NUMBERS = st.one_of(
    st.floats(-1e31, 1e31), st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, 5e-324, 1.0, -1.0, 1e308]),
    st.integers(-5, 5).map(float),
)  # fmt: skip


def of_texts(texts: list[str]) -> bytes:
    return distinct(hashes([text.encode() for text in texts]))


def of_numbers(numbers: list[float]) -> bytes:
    return percentiles(np.array(numbers, np.float64))


def merged(parts: list[bytes], merge: Any, tree: list[int]) -> bytes:
    """The parts merged two and two, in the order that `tree` says."""
    parts = list(parts)
    for place in tree:
        if len(parts) > 1:
            one = parts.pop(place % len(parts))
            other = parts.pop(place % len(parts))
            parts.insert(place % (len(parts) + 1), merge([one, other]))
    return bytes(merge(parts))


@given(st.lists(st.lists(st.text(max_size=3), max_size=30), max_size=6), st.lists(st.integers(0, 9)), st.randoms())
def test_distinct_is_the_same_by_any_tree(parts: list[list[str]], tree: list[int], random: Any) -> None:
    whole = [text for part in parts for text in part]
    expected = of_texts(whole)
    random.shuffle(whole)
    assert of_texts(whole * 2) == expected
    assert merged([of_texts(part) for part in parts], merge_distinct, tree) == expected


@given(st.lists(st.lists(NUMBERS, max_size=30), max_size=6), st.lists(st.integers(0, 9)), st.randoms())
def test_percentiles_are_the_same_by_any_tree(parts: list[list[float]], tree: list[int], random: Any) -> None:
    whole = [number for part in parts for number in part]
    expected = of_numbers(whole)
    random.shuffle(whole)
    assert of_numbers(whole) == expected
    assert merged([of_numbers(part) for part in parts], merge_percentiles, tree) == expected


@given(st.integers(0, 3), st.lists(st.integers(0, 9)))
def test_full_sketches_are_the_same_by_any_tree_too(seed: int, tree: list[int]) -> None:
    random = np.random.default_rng(seed)
    numbers = np.concatenate([10 ** random.uniform(-30, 30, 4000), -(10 ** random.uniform(-30, 30, 4000))])
    parts = np.array_split(random.permutation(numbers), 5)
    assert merged([percentiles(part) for part in parts], merge_percentiles, tree) == percentiles(numbers)
    hashed = random.integers(0, 2**64, 20_000, np.uint64)
    assert merged([distinct(part) for part in np.array_split(hashed, 5)], merge_distinct, tree) == distinct(hashed)


@pytest.mark.parametrize("count", [0, 1, 2, 100, 1_000, 5_000, 100_000, 1_000_000])
def test_distinct_is_close(count: int) -> None:
    found = estimate_distinct(distinct(np.random.default_rng(count).integers(0, 2**64, count, np.uint64)))
    assert abs(found - count) <= 4 * 0.0163 * count
    if count <= 100:
        assert abs(found - count) <= 1


def test_a_distinct_sketch_is_as_exact_in_the_middle_of_its_sizes() -> None:
    errors = [
        estimate_distinct(distinct(np.random.default_rng(seed).integers(0, 2**64, 20_000, np.uint64))) / 20_000 - 1
        for seed in range(60)
    ]
    assert float(np.std(errors)) < 0.0163 * 1.4
    assert abs(float(np.mean(errors))) < 0.0163


def test_registers_at_their_ends() -> None:
    # All bits zero, all bits one, and a single one at the end.
    for hashed in (0, 2**64 - 1, 1):
        sketch = distinct(np.array([hashed], np.uint64))
        assert len(sketch) == 4
        assert estimate_distinct(sketch) == 1


@given(st.lists(st.one_of(st.floats(-1e30, 1e30), st.sampled_from([0.0, 1e-30, -1e-30])), min_size=1, max_size=200))
def test_percentiles_are_within_one_percent(numbers: list[float]) -> None:
    numbers = [number if abs(number) >= 1e-30 else 0.0 for number in numbers]
    at = [0.0, 25.0, 50.0, 99.0, 100.0]
    spread = [abs(number) for number in numbers if number]
    found = estimate_percentiles(of_numbers(numbers), at)
    ordered = sorted(numbers)
    for percent, value in zip(at, found, strict=True):
        truth = ordered[int(percent / 100 * (len(ordered) - 1))]
        assert value is not None
        # With more bins than there is room for, the ones nearest to zero are one.
        if not spread or max(spread) / min(spread) < 1e15:
            assert abs(value - truth) <= 0.0101 * abs(truth)


def test_bins_are_those_of_the_library() -> None:
    random = np.random.default_rng(1)
    numbers = np.concatenate([10 ** random.uniform(-30, 30, 5_000), [1.0, 2.0, 0.5, 1e-30, 1e30]])
    assert sketches._bins(numbers).tolist() == [sketches._mapping.key(number) for number in numbers.tolist()]


def test_of_nothing() -> None:
    assert estimate_distinct(merge_distinct([])) == 0
    assert estimate_percentiles(of_numbers([]), [50.0]) == [None]
    assert estimate_percentiles(merge_percentiles([]), [0.0, 100.0]) == [None, None]
    assert merge_top([]) == sketches.Top()
    assert merge_distinct([distinct(hashes([]))]) == distinct(hashes([]))


def test_sizes_are_bounded() -> None:
    random = np.random.default_rng(2)
    for count in (10, 1_000, 2_000, 300_000):
        assert len(distinct(random.integers(0, 2**64, count, np.uint64))) <= sketches.REGISTERS + 1
    wide = np.concatenate([10 ** random.uniform(-30, 30, 300_000), -(10 ** random.uniform(-30, 30, 300_000))])
    assert len(percentiles(wide)) <= 8 * (3 + 4 * sketches.MOST_BINS)
    full = top({f'"{number:062}"': 1 for number in range(5_000)})
    assert len(merge_top([full]).counts) == sketches.ROOM
    assert merge_top([full]).others == 5_000 - sketches.ROOM
    assert len(full) < 300_000


@given(st.lists(st.text("abcdefg", min_size=1, max_size=2), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_a_top_is_the_same_however_its_values_are_divided(values: list[str], cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketches, "ROOM", 5)
        borders = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
        found = top({})
        for since, until in itertools.pairwise(borders):
            counts: dict[str, int] = {}
            for value in values[since:until]:
                counts[value] = counts.get(value, 0) + 1
            found = top(counts, found)
        whole = sketches.Top()
        for value in values:
            whole.add({value: 1})
        assert found == msgspec.json.encode(whole, order="deterministic")
        assert sum(whole.counts.values()) + whole.others == len(values)


def test_the_values_of_a_top_are_bounded_also_by_their_length() -> None:
    """In whatever batches they come: what found no room once finds none later."""
    long = {f'"{number:03}{"x" * 253}"': 1 for number in range(999)}
    once = sketches.top(long | {'"a"': 5, '"b"': 1})
    apart = None
    for value, count in (long | {'"a"': 5, '"b"': 1}).items():
        apart = sketches.top({value: count}, apart)
    assert once == apart
    assert len(once) < sketches.ROOM_TEXT + 20_000
    whole = sketches.merge_top([once])
    assert (whole.counts['"a"'], sum(whole.counts.values()) + whole.others) == (5, 1005)
