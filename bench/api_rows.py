"""The rows of api.*: the same in every side, each made of its number alone, and what a search has to find of them.

A row has WORDS words of its own in title and body, each of seven letters, so that none is the beginning or a part of
another: whole words, beginnings and parts of words find the same rows.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

CONSONANTS = "bdfghklmnprstvz"
VOWELS = "aeiou"
KINDS = ("note", "task", "event", "photo", "place")
WORDS = 8
PAGE = 20
MOST = 100
"""What an answer holds at most, and so what a question may find at most for all of it to be compared."""
QUESTIONS = 200
FEWEST_ROWS = 1_000
Question = tuple[str, str]
"""A word, and a kind."""


def word(number: int) -> str:
    """One of some 400,000 words."""
    letters = []
    number = number * 7_919 + 5
    for _ in range(3):
        number, place = divmod(number, len(CONSONANTS) * len(VOWELS))
        letters += [CONSONANTS[place // len(VOWELS)], VOWELS[place % len(VOWELS)]]
    return "".join(letters) + "n"


class Rows:
    """Rows by number; `total` are searched. There are so many words that one in one kind is in some 50 of these."""

    def __init__(self, total: int) -> None:
        self.total = max(total, FEWEST_ROWS)
        self.vocabulary = self.total * 3 // 100

    def row(self, number: int) -> dict[str, Any]:
        """A resource as a client sends it."""
        first, *more = self.words(number)
        return {
            "title": f"Bench resource {number} {first}",
            "kind": kind(number),
            "body": "All rivers run into the sea. " * 5 + " ".join(more),
            "tags": ["bench", f"t{number % 500}"],
            "attributes": {"n": number, "colour": "green"},
            "visibility": "private",
        }

    def words(self, number: int) -> list[str]:
        """Its own words."""
        return [word(place) for place in random.Random(number).sample(range(self.vocabulary), WORDS)]

    @lru_cache(maxsize=1)  # noqa: B019 (there is one for a run)
    def questions(self) -> Mapping[Question, frozenset[int]]:
        """Questions with the numbers of all rows that answer them: a page at least, and no more than fit an answer."""
        found: defaultdict[Question, set[int]] = defaultdict(set)
        for number in range(self.total):
            for one in self.words(number):
                found[one, kind(number)].add(number)
        fitting = [question for question, numbers in found.items() if PAGE <= len(numbers) <= MOST]
        chosen = random.Random(self.total).sample(fitting, min(QUESTIONS, len(fitting)))
        return {question: frozenset(found[question]) for question in chosen}


def kind(number: int) -> str:
    """The kind of a row."""
    return KINDS[number % len(KINDS)]


def number_of(found: Mapping[str, Any]) -> int:
    """The number of a row that somebody answered with, by its title."""
    return int(str(found["title"]).split()[2])


def wrong(rows: Rows, found: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with rows that somebody answered with, as the end of a sentence; None if nothing is."""
    for each in found:
        expected = rows.row(number_of(each))
        for member in expected.keys() & each.keys():
            if each[member] != expected[member]:
                return f"{member} of row {number_of(each)} is {each[member]!r}"
        if each.get("description", expected["body"]) != expected["body"]:
            return f"the description of row {number_of(each)} is {each['description']!r}"
    numbers = [number_of(each) for each in found]
    return "a row comes twice" if len(set(numbers)) != len(numbers) else None
