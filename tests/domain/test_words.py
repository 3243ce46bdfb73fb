"""What texts are found by, and how the places are shown."""

import unicodedata
from time import process_time

import pytest

from domain.highlights import excerpt, highlight
from domain.words import MOST_MARKS, Term, normal, terms, tokens, words


def test_runs_are_cut_into_pairs_with_their_places() -> None:
    assert list(tokens("여울에서 water")) == [("여울", 1), ("울에", 2), ("에서", 3), ("서", 4), ("water", 6)]
    assert words("E-mail: A.B@c_d") == ["e", "mail", "a", "b", "c", "d"]


def test_more_marks_than_any_writing_has_are_left_out_before_they_are_put_in_order() -> None:
    marks = "\u0301\u0323" * 50_000
    begin = process_time()
    assert len(normal("a" + marks + "b", "NFC")) <= MOST_MARKS + 2
    assert process_time() - begin < 1
    for text in (
        "e\u0301",
        "한글\u1112\u1161\u11ab",
        "a" + "\u0301" * MOST_MARKS,
        "😀" * 99,
        "—" * 99,
        "😀\u0301" * 99,
    ):
        assert normal(text, "NFC") == unicodedata.normalize("NFC", text)


def test_a_question_is_its_words_and_runs() -> None:
    assert terms("여울 Water 여울, x") == (Term("여울", True), Term("water"), Term("x"))
    assert terms("!?\u3000…") == ()
    assert len(terms(" ".join(f"w{n}" for n in range(99)))) == 16


@pytest.mark.parametrize(
    ("text", "question", "shown"),
    [
        ("한여울에서", "여울", "한<mark>여울</mark>에서"),
        ("Rivers & river", "RIVER", "<mark>River</mark>s &amp; <mark>river</mark>"),
        ("<script>alert(1)</script>", "script", "&lt;<mark>script</mark>&gt;alert(1)&lt;/<mark>script</mark>&gt;"),
        ("driver", "river", "driver"), ("İstanbul ab", "ab", "İstanbul <mark>ab</mark>"), ("", "a", ""),
        ('"<mark>"', "mark", "&quot;&lt;<mark>mark</mark>&gt;&quot;"),
    ],
)  # fmt: skip
def test_marks_stand_in_escaped_text(text: str, question: str, shown: str) -> None:
    assert highlight(text, terms(question)) == shown


def test_an_excerpt_is_short_however_long_the_text() -> None:
    begin = process_time()
    text = "가 " * 50_000
    assert len(excerpt(text, terms("가 " * 16))) < 3000
    assert excerpt("x" * 1000, terms("y")) == "x" * 200 + "…"
    assert process_time() - begin < 2
