"""What a handler gets: a batch after decoding, which can be halved until a record that fails is alone."""

from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from stores.dead_letters import Letter
from stores.postgres import UNFIT, StoresAway, StoresUnfit
from stores.progress import Move
from streams.batches import Span
from streams.progress import Owned
from streams.recent import Staged

THE_STORES = "the stores"
"""What is waited for when PostgreSQL is away, in words."""
MAIL_SERVER = "the mail server"


class MailServerAway(StoresAway):
    """The mail server can't be used now: its mails wait like work for a store that is away, and nobody else does."""


def refuses(error: Exception) -> bool:
    """True if PostgreSQL is there and not what this version needs."""
    return isinstance(error, (StoresUnfit, *UNFIT))


def waits_for(error: Exception) -> str | None:
    """What work that failed like this has to wait for, in words; None if it is the work that is to blame."""
    if refuses(error):
        return f"an operator: {error}"
    if isinstance(error, MailServerAway):
        return MAIL_SERVER
    return THE_STORES if isinstance(error, StoresAway) else None


class Part:
    """What a batch has of one partition: the span, and the records that could be read, each with its message.

    A handler never gets repeats, nor messages that are None (a type that is not known); what was left out for that is
    told by `repeats`, `unknown`, and what the partition is to remember once this is committed: `sequence`, the highest
    one passed, and `sighted`, offsets by source and id.
    """

    __slots__ = ("key", "messages", "owned", "records", "repeats", "sequence", "sighted", "span", "unknown")

    def __init__(
        self, key: TopicPartition, owned: Owned, span: Span, records: list[ConsumerRecord], messages: list[Any]
    ) -> None:
        self.key = key
        self.owned = owned
        self.span = span
        self.records = records
        self.messages = messages
        self.repeats = 0
        self.unknown = 0
        self.sequence = ""
        self.sighted: Staged = {}

    def split(self) -> "tuple[Part, Part]":
        """The first half and the rest; the cut is where the rest's first record stands."""
        middle = (len(self.records) + 1) // 2
        cut = self.records[middle].offset if middle < len(self.records) else self.span.end
        return (
            Part(self.key, self.owned, Span(self.span.begin, cut), self.records[:middle], self.messages[:middle]),
            Part(self.key, self.owned, Span(cut, self.span.end), self.records[middle:], self.messages[middle:]),
        )


class Work:
    """A batch after decoding, or a piece of one."""

    __slots__ = ("letters", "parts")

    def __init__(self, parts: list[Part], letters: list[Letter]) -> None:
        self.parts = parts
        self.letters = letters

    @property
    def count(self) -> int:
        """Records in it."""
        return sum(len(part.records) for part in self.parts)

    def split(self) -> "tuple[Work, Work]":
        """Two pieces; each partition stays in order, so the first must be committed before the second."""
        full = [part for part in self.parts if part.records]
        if len(full) > 1 and all(len(part.records) == 1 for part in full):
            middle = len(full) // 2
            first = full[:middle]
            rest = [part for part in self.parts if part not in first]
        else:
            halves = [part.split() for part in self.parts]
            first = [half for half, _ in halves]
            rest = [half for _, half in halves if half.span.begin < half.span.end]
        ends = {part.key: part.span.end for part in first}
        early = [letter for letter in self.letters if letter.offset < ends.get(key_of(letter), -1)]
        return Work(first, early), Work(rest, [letter for letter in self.letters if letter not in early])


def key_of(letter: Letter) -> TopicPartition:
    """The partition that a dead letter came from."""
    return TopicPartition(letter.topic, letter.partition)


class Handler(Protocol):
    """What a group does with its records."""

    name: str

    def decode(self, record: ConsumerRecord) -> Any:
        """A message, or None for a type that is not known here (skipped and counted). Raises Unreadable."""

    def decode_all(self, records: Sequence[ConsumerRecord]) -> list[Any] | None:
        """What `decode` gives for each, at once, which is quicker; None when one of them has to be looked at alone."""

    async def commit(self, work: Work, moves: list[Move]) -> Any:
        """Handle and move, all in one transaction.

        Raises Mismatch, StoresAway, and what waits_for knows; anything else blames a record.
        """

    async def after(self, result: Any) -> None:
        """What follows a commit: answers, publication. Never raises for an absence; never runs the handler again."""
