"""What a text is found by: its words, and of Korean, Chinese and Japanese every two characters that stand together.

These languages write compounds without spaces, and Korean glues particles to nouns: whoever looks for 여울
wants 여울에서, too. So a run of their characters is cut into overlapping pairs, each with its place, and a longer run
is found by pairs that stand where they should. The last character of a run stands alone besides, so one character
finds all of its places by the beginnings of pairs.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

import msgspec

SEARCHED = 14_000
"""Characters of a body that are looked through; PostgreSQL knows no place in a text beyond 16,383."""
LONGEST_WORD = 64
"""Characters of a word that count; what begins alike is the same word."""
MOST_MARKS = 30
"""Combining marks in a row that count. No writing has more; to put them in order takes the square of their number, so
a text of nothing else would hold up whoever compares it (Unicode Standard Annex 15, stream-safe text)."""
SHORTEST_BEGINNING = 3
"""Characters of a word that is also found as the beginning of longer ones; shorter ones begin too many."""
MOST_TERMS = 16
"""Terms of one question."""
EXAMPLE = "river 여울 7"
"""A question that has terms, for whoever asked one that has none."""

PAIRED = "㐀-鿿豈-﫿ぁ-ヿ가-힣"
"""Characters that are taken in pairs, as ranges."""
_RUNS = re.compile(rf"([{PAIRED}]+)|([^\W_{PAIRED}]+)")
_MANY_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{MOST_MARKS + 1},}}")
_SIGNS = str.maketrans({chr(number): " " for number in range(128) if not chr(number).isalnum()})


class Term(msgspec.Struct, frozen=True):
    """A word, or a run of paired characters, of a question."""

    text: str
    paired: bool = False

    @property
    def beginning(self) -> bool:
        """True if longer words count, too."""
        return not self.paired and len(self.text) >= SHORTEST_BEGINNING


def normal(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """`text` in a normal form of Unicode, without the combining marks behind MOST_MARKS in a row; in linear time."""
    return text if text.isascii() else unicodedata.normalize(form, _MANY_MARKS.sub(_fewer, text))


def _fewer(run: re.Match[str]) -> str:
    kept = []
    marks = 0
    for sign in run.group():
        marks = marks + 1 if unicodedata.combining(sign) else 0
        if marks <= MOST_MARKS:
            kept.append(sign)
    return "".join(kept)


def plain(text: str) -> str:
    """`text` as it is compared: compatible forms made one (NFKC), in lower case."""
    return normal(text, "NFKC").lower()


def words(text: str) -> list[str]:
    """The words of an ASCII text; nearly all that is written is that, so it goes without regular expressions."""
    found = text.lower().translate(_SIGNS).split()
    return found if len(text) <= LONGEST_WORD else [word[:LONGEST_WORD] for word in found]


def tokens(text: str, most: int = SEARCHED) -> Iterator[tuple[str, int]]:
    """Each word and each pair of a text with its place; a pair's neighbour in its run stands one further."""
    place = 0
    for run in _RUNS.finditer(plain(text[:most])[:most]):
        word = run.group()
        place += 1
        if run.lastindex == 2:
            yield word[:LONGEST_WORD], place
            continue
        for at in range(len(word)):
            yield word[at : at + 2], place + at
        place += len(word)


def terms(text: str) -> tuple[Term, ...]:
    """What is looked for: each word and run once, MOST_TERMS at most; none if there is no letter and no digit."""
    found = dict.fromkeys(
        Term(run.group(), True) if run.lastindex == 1 else Term(run.group()[:LONGEST_WORD])
        for run in _RUNS.finditer(plain(text))
    )
    return tuple(found)[:MOST_TERMS]
