"""Where the words of a question stand in a text, shown by `<mark>` in text that is escaped for HTML."""

import html
from collections.abc import Sequence

from domain.words import Term, normal

AROUND = 60
"""Characters before the first place that are shown of a long text."""
EXCERPT = 200
"""Characters of an excerpt."""
MOST_MARKS = 50
"""Places that are marked in one text."""


def highlight(text: str, sought: Sequence[Term]) -> str:
    """All of `text`, escaped, with what was sought in `<mark>`."""
    text = normal(text, "NFC")
    return _marked(text, _places(text, sought))


def excerpt(text: str, sought: Sequence[Term]) -> str:
    """The part of a long text around the first place, as `highlight` shows it; its beginning if there is none."""
    text = normal(text, "NFC")
    places = _places(text, sought)
    begin = max(0, places[0][0] - AROUND) if places else 0
    end = begin + EXCERPT
    shown = _marked(text[begin:end], [(max(0, a - begin), b - begin) for a, b in places if a >= begin and b <= end])
    return f"{'…' if begin else ''}{shown}{'…' if end < len(text) else ''}"


def _places(text: str, sought: Sequence[Term]) -> list[tuple[int, int]]:
    """Begin and end of each place, in order, none within another. Words by their beginnings, as they are found."""
    folded = _folded(text)
    found: list[tuple[int, int]] = []
    for term in sought:
        at = folded.find(term.text)
        seen = 0
        while at >= 0 and seen < MOST_MARKS:
            end = at + len(term.text)
            if term.paired or (_begins(folded, at) and (term.beginning or _ends(folded, end))):
                found.append((at, end))
                seen += 1
            at = folded.find(term.text, end)
    found.sort()
    apart: list[tuple[int, int]] = []
    for begin, end in found:
        if apart and begin <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((begin, end))
    return apart[:MOST_MARKS]


def _begins(text: str, at: int) -> bool:
    return at == 0 or not text[at - 1].isalnum() or not text[at - 1].isascii()


def _ends(text: str, end: int) -> bool:
    return end == len(text) or not text[end].isalnum() or not text[end].isascii()


def _folded(text: str) -> str:
    """In lower case, and as long as before: the places are those of `text`."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := sign.lower()) == 1 else sign for sign in text)


def _marked(text: str, places: Sequence[tuple[int, int]]) -> str:
    parts = []
    at = 0
    for begin, end in places:
        parts += [html.escape(text[at:begin]), "<mark>", html.escape(text[begin:end]), "</mark>"]
        at = end
    parts.append(html.escape(text[at:]))
    return "".join(parts)
