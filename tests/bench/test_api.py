"""The bench of the API: its rows, what it does not call right, and what is said of a side that can't be had."""

import shutil
from pathlib import Path

import pytest

from bench import api, rivals
from bench.api_rows import KINDS, MOST, PAGE, Rows, kind, number_of, word, wrong
from bench.figures import API_FLOOD, API_MEMORY, FIGURES, Options
from bench.records import Sample, compare
from bench.rivals import Unavailable
from bench.stage import Stage
from bench.table import table
from embedded.stack import Stack

ROWS = Rows(1_000)


def test_no_word_is_a_part_of_another_or_of_what_all_rows_have() -> None:
    words = {word(number) for number in range(3_000)}
    assert len(words) == 3_000
    assert {len(each) for each in words} == {7}
    common = ROWS.row(0)["body"].replace(" ".join(ROWS.words(0)[1:]), "")
    assert not any(len(each) >= 7 for each in common.split())


def test_a_question_has_a_full_page_and_all_of_its_rows_fit_an_answer() -> None:
    questions = ROWS.questions()
    assert len(questions) > 100
    texts = {number: f"{row['title']} {row['body']}" for number in range(1_000) if (row := ROWS.row(number))}
    for (asked, of), numbers in questions.items():
        assert of in KINDS
        assert PAGE <= len(numbers) <= MOST
        assert numbers == {number for number, text in texts.items() if asked in text and kind(number) == of}


def test_a_wrong_row_is_named() -> None:
    row = ROWS.row(7)
    assert wrong(ROWS, [row, {"title": row["title"].replace(" 7 ", " 7 ")}]) == "a row comes twice"
    assert number_of(row) == 7
    assert kind(7) == row["kind"]
    assert wrong(ROWS, [row]) is None
    assert wrong(ROWS, [{**row, "visibility": "public"}]) == "visibility of row 7 is 'public'"
    assert "description of row 7" in str(wrong(ROWS, [{"title": row["title"], "description": "another"}]))


async def test_without_go_pocketbase_is_left_out_and_the_row_says_so(
    stack: Stack, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    stage = Stage(Options(), dict(stack.settings_environ), tmp_path, stack, cache_dir)
    with pytest.raises(Unavailable, match="no go on this machine") as missing:
        await rivals.pocketbase(stage)
    (figure,) = (each for each in FIGURES if each.id == "api.get.pocketbase")
    record = compare(figure, {"yeoul": [Sample(value=1.0)], "baseline": []}, note=f"left out: {missing.value}")
    assert record.met is None
    assert "left out" in table([record])


def test_every_figure_of_the_api_is_measured_by_something() -> None:
    begins = (*(operation.begins for operation in api.OPERATIONS), API_FLOOD.id, API_MEMORY.id)
    figures = [figure.id for figure in FIGURES if figure.id.startswith("api.")]
    assert figures
    assert all(figure.startswith(begins) for figure in figures)
