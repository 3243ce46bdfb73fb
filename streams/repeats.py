"""Which records of a piece of work are new. Asked just before each try to commit it, not once for a batch.

Whether a record is a repeat depends on what became of those before it: one that was parked was not handled.
"""

from operator import attrgetter

from streams.recent import Staged
from streams.work import Part, Work
from topics import Repeats

_source, _id = attrgetter("source"), attrgetter("id")


def fresh(work: Work) -> Work:
    """The work without repeats and unknown types: what a handler gets. Nothing is remembered before the commit."""
    return Work([_fresh(part) for part in work.parts], work.letters)


def _all_new(new: Part, part: Part) -> bool:
    """True, and all of them are in `new`, if no two are equal and none was sighted before."""
    recent, messages = part.owned.recent, part.messages
    if recent is None:
        return False
    offsets = [record.offset for record in part.records]
    try:
        sources = list(map(_source, messages))
        ids = list(map(_id, messages))
    except AttributeError:  # None stands for a type that is not known
        return False
    if len(set(sources)) == 1:
        found: Staged = {sources[0]: dict(zip(ids, offsets, strict=True))}
    else:
        found = {}
        for source, id, offset in zip(sources, ids, offsets, strict=True):
            found.setdefault(source, {})[id] = offset
    if sum(map(len, found.values())) < len(ids) or not recent.sight_new(new.sighted, found):
        return False
    new.records, new.messages = part.records, part.messages
    return True


def _fresh(part: Part) -> Part:
    owned = part.owned
    new = Part(part.key, owned, part.span, [], [])
    new.sequence = highest = max(owned.sequence, part.sequence)
    rule, recent = owned.topic.repeats, owned.recent
    if recent is not None and part.messages and _all_new(new, part):
        return new
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
