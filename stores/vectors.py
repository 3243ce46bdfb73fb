"""What a resource is found by, in one column: its words and pairs of characters, and marks of its values.

Each value that lists are narrowed by has a mark (`=knote`, `=vpublic`), which begins with a sign that no word has.
"""

from collections.abc import Sequence

from domain import words
from domain.access import Actor, Role
from domain.resources import Resource
from domain.words import Term

MARKS = {"kind": "=k", "status": "=s", "visibility": "=v", "owner_id": "=o", "tags": "=t"}
"""The fields whose values have marks, and what these begin with."""


def vector(state: Resource) -> str:
    """A tsvector as text. Words of the title weigh more than those of the tags, and these more than the body's."""
    found: list[str] = []
    place = _put(found, state.title, 0, "A")
    for tag in state.tags:
        place = _put(found, tag, place, "B")
        found.append(mark("tags", tag))
    body = state.body
    if body.isascii():
        # Places are of use for pairs only.
        found += dict.fromkeys(words.words(body[: words.SEARCHED]))
    else:
        found += [f"{word}:{place + at}" for word, at in words.tokens(body)]
    found.append(f"=k{state.kind} =s{state.status} =v{state.visibility.value} =o{state.owner_id.hex}")
    return " ".join(found)


def _put(found: list[str], text: str, place: int, weight: str) -> int:
    """Adds the words of a short text with their places; returns the last place."""
    if text.isascii():
        for place, word in enumerate(words.words(text), place + 1):  # noqa: B020 (it goes on from there)
            found.append(f"{word}:{place}{weight}")
        return place
    last = place
    for word, at in words.tokens(text):
        last = place + at
        found.append(f"{word}:{last}{weight}")
    return last + 1


def mark(field: str, value: str) -> str:
    """The mark of a value, as it stands in a tsvector or a tsquery."""
    quoted = (MARKS[field] + value).replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}'"


def visible(actor: Actor) -> str:
    """What an actor may see, as a tsquery; empty for an admin, who may see all."""
    if actor.role is Role.ADMIN:
        return ""
    public = mark("visibility", "public")
    return public if actor.id is None else f"({public} | {mark('owner_id', actor.id.hex)})"


def query(terms: Sequence[Term], weight: str = "") -> str:
    """A tsquery that wants every term; `weight`: in the title only (`A`).

    Terms are letters and digits, so none is quoted.
    """
    return " & ".join(_wanted(term, weight) for term in terms)


def _wanted(term: Term, weight: str) -> str:
    text = term.text
    if not term.paired or len(text) == 1:
        flags = f"{'*' if term.paired or term.beginning else ''}{weight}"
        return f"{text}:{flags}" if flags else text
    flags = f":{weight}" if weight else ""
    wanted = " <2> ".join(text[at : at + 2] + flags for at in range(0, len(text) - 1, 2))
    if len(text) % 2:
        wanted += f" <1> {text[-2:]}{flags}"
    return f"({wanted})"
