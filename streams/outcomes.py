"""What came of a batch of commands: what is written with it, and who is told what."""

from typing import Any, Literal
from uuid import UUID

from domain.refusals import Code, Refusal
from stores.aggregates import Entry, Operation
from streams.answers import Sent, write_refusal
from streams.envelope import Command
from streams.publisher import Publication

_KEY_REUSED = write_refusal(Refusal(Code.KEY_REUSED))
_FAILED = write_refusal(Refusal(Code.OPERATION_FAILED))


def reopens(before: Operation, envelope: Command) -> bool:
    """True if the operation failed, and this is its command again: replayed by an operator, or sent by its caller."""
    return before.outcome == "failed" and _is_of(before, envelope)


def _is_of(before: Operation, envelope: Command) -> bool:
    return before.fingerprint == envelope.fingerprint and before.actor == envelope.actor


class Outcome:
    """What came of a batch: everything that is written, and everything that follows the commit.

    `done`, where it is asked for, has the operations that are known so far; what is settled here joins them.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.states: dict[UUID, Any] = {}
        self.loaded: dict[UUID, int] = {}
        self.journal: list[Entry] = []
        self.operations: list[Operation] = []
        self.answers: dict[str, list[Sent]] = {}
        self.publications: list[Publication] = []

    def succeed(self, envelope: Command, done: dict[UUID, Operation], version: int, document: bytes) -> None:
        """The command was carried out; `document` is what came of its aggregate, empty for one that is gone."""
        self._settle(envelope, done, "succeeded", version, document)

    def refuse(self, envelope: Command, done: dict[UUID, Operation], version: int, refusal: Refusal) -> None:
        """The command was refused."""
        self._settle(envelope, done, "refused", version, write_refusal(refusal))

    def fail(self, envelope: Command, done: dict[UUID, Operation]) -> None:
        """The command is a dead letter; if it was one before, whoever sent it again is told that it failed again."""
        before = done.get(envelope.operation)
        if before is None:
            self._settle(envelope, done, "failed", 0, _FAILED)
        elif reopens(before, envelope):
            self._tell(envelope, before, replayed=False)

    def repeat(self, envelope: Command, before: Operation) -> None:
        """The operation was done before: its answer again, unless this is another command under its key."""
        if _is_of(before, envelope):
            self._tell(envelope, before, replayed=True)
        elif envelope.replyto:
            reused = Sent(envelope.operation, "refused", False, 0, _KEY_REUSED, envelope.fingerprint)
            self.answers.setdefault(envelope.replyto, []).append(reused)

    def _settle(
        self, envelope: Command, done: dict[UUID, Operation], result: Literal["succeeded", "refused", "failed"],
        version: int, answer: bytes,
    ) -> None:  # fmt: skip
        operation = Operation(
            envelope.operation,
            self._noun,
            envelope.subject,
            envelope.actor,
            envelope.fingerprint,
            result,
            version,
            answer,
        )
        self.operations.append(operation)
        done[envelope.operation] = operation
        self._tell(envelope, operation, replayed=False)

    def _tell(self, envelope: Command, operation: Operation, *, replayed: bool) -> None:
        if envelope.replyto:
            result: Any = operation.outcome
            sent = Sent(envelope.operation, result, replayed, operation.version, operation.answer, envelope.fingerprint)
            self.answers.setdefault(envelope.replyto, []).append(sent)
