"""Which records of a piece of work are new. Asked just before each try to commit it, not once for a batch.

Whether a record is a repeat depends on what became of those before it: one that was parked was not handled.
"""

from streams.work import Part, Work
from topics import Repeats


def fresh(work: Work) -> Work:
    """The work without repeats and unknown types: what a handler gets. Nothing is remembered before the commit."""
    return Work([_fresh(part) for part in work.parts], work.letters)


def _fresh(part: Part) -> Part:
    owned = part.owned
    new = Part(part.key, owned, part.span, [], [])
    new.sequence = highest = max(owned.sequence, part.sequence)
    rule, recent = owned.topic.repeats, owned.recent
    for record, message in zip(part.records, part.messages, strict=True):
        if message is None:
            new.unknown += 1
            continue
        if rule is Repeats.SEQUENCE:
            if message.sequence <= highest:
                new.repeats += 1
                continue
            highest = message.sequence
        elif recent is not None and recent.sight(new.sighted, message.source, message.id, record.offset):
            new.repeats += 1
            continue
        new.records.append(record)
        new.messages.append(message)
    new.sequence = highest
    return new
