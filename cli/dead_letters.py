"""`dead-letters`: records that could not be handled: look at them, send them again, drop them; let partitions go on."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from cli.arguments import OFFSETS, whole
from cli.connection import settings
from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from config import Settings
    from stores.dead_letters import DeadLetters, Listed
    from stores.progress import ProgressStore

HELP = "list, show, replay or drop records that could not be handled; resume stopped partitions"


class UnknownGroup(EmbeddedError):
    """No consumer group has this name."""

    def __init__(self, given: str, known: list[str]) -> None:
        super().__init__(f"there is no group {given!r}; there are: {', '.join(known)}")


STATES = ("parked", "requested", "replayed", "dropped")


def arguments(parser: argparse.ArgumentParser) -> None:
    """One action, and what it acts on."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    number = whole(0, OFFSETS)

    def add(name: str, words: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=words, description=words, allow_abbrev=False)

    listing = add("list", "the parked ones, oldest first")
    listing.add_argument("--group", help="only of this consumer group, such as resources or yeoul.resources")
    listing.add_argument("--state", choices=STATES, default="parked")
    listing.add_argument("--limit", type=whole(1, 100_000), default=100, metavar="N", help="at most so many (100)")
    listing.add_argument("--after", type=number, default=0, metavar="ID", help="begin behind this one")
    show = add("show", "one, with its bytes, headers and error")
    show.add_argument("id", type=number)
    for name, words in (
        ("replay", "send again: a command is produced again, a reader takes the row itself"),
        ("drop", "settle without handling; the row stays, marked"),
    ):
        action = add(name, words)
        action.add_argument("ids", type=number, nargs="*", metavar="ID")
        action.add_argument("--all", action="store_true", help="every parked one (of --group)")
        action.add_argument("--group", help="with --all: only of this consumer group")
        if name == "drop":
            action.add_argument("--yes", action="store_true", help="with --all: do not ask")
    add("stopped", "partitions that wait for an operator, and why")
    resume = add("resume", "let a stopped partition go on")
    resume.add_argument("group", help="such as resources or yeoul.resources")
    resume.add_argument("topic", help="full name, such as yeoul.commands.resources")
    resume.add_argument("partition", type=whole(0, 2**31 - 1))
    resume.add_argument("offset", type=number, help="the next offset to handle; what is before it is given up")


def run(options: argparse.Namespace) -> int:
    """0 done, 1 some of them could not be."""
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from stores.dead_letters import DeadLetters
    from stores.postgres import of
    from stores.progress import ProgressStore

    known = settings("postgres", "kafka") if options.action == "replay" else settings("postgres")
    database = of(known, "dead-letters", size=2)
    letters = DeadLetters(database)
    try:
        if getattr(options, "group", None):
            options.group = await _group(letters, ProgressStore(database), known.topic_prefix, options.group)
        match options.action:
            case "list":
                return await _list(letters, options)
            case "show":
                return await _show(letters, options.id)
            case "replay" | "drop":
                return await _settle(known, letters, options)
            case "stopped":
                stopped = await ProgressStore(database).stopped()
                for row in stopped:
                    where = f"{row['consumer_group']} {row['topic']} {row['partition']} at {row['next_offset']}"
                    print(f"{where}: {row['stopped']}")
                if not stopped:
                    print("no partition is stopped")
                return 0
            case _:
                done = await ProgressStore(database).resume(
                    options.group, options.topic, options.partition, options.offset
                )
                print("it goes on within a few seconds" if done else "that partition is not stopped")
                return 0 if done else 1
    finally:
        await database.close()


async def _group(letters: DeadLetters, progress: ProgressStore, prefix: str, given: str) -> str:
    """The full name of a group that may be named without the prefix. Raises `UnknownGroup`, `StoresAway`."""
    from worker import GROUPS

    # A group of an older version has no code any more, and still its rows.
    known = {f"{prefix}.{name}" for name in GROUPS} | await letters.groups() | await progress.groups()
    for name in (given, f"{prefix}.{given}"):
        if name in known:
            return name
    raise UnknownGroup(given, sorted(known))


async def _list(letters: DeadLetters, options: argparse.Namespace) -> int:
    from stores.postgres import PIECE

    after, left = options.after, options.limit
    while left and (
        found := await letters.listed(
            group=options.group, state=options.state, topic=None, limit=min(left, PIECE), after=after
        )
    ):
        for letter in found:
            place = f"{letter.topic}/{letter.partition}@{letter.offset}"
            print(
                f"{letter.id:>6}  {letter.parked_at:%Y-%m-%d %H:%M:%S}  {letter.group}  "
                f"{place}  {letter.size or 0} bytes  {letter.code}: {_printable(letter.error)[:100]}"
            )
        after, left = found[-1].id, left - len(found)
    if left == options.limit:
        print(f"none {options.state}")
    elif not left:
        print(f"more: --after {after}")
    return 0


async def _show(letters: DeadLetters, id: int) -> int:
    from stores.dead_letters import ERASED

    letter = await letters.get(id)
    if letter is None:
        print(f"yeoul: there is no dead letter {id}", file=sys.stderr)
        return 1
    for name in ("id", "state", "group", "topic", "topic_id", "partition", "offset", "code", "handler", "attempts"):
        print(f"{name:<10} {getattr(letter, name)}")
    print(f"parked_at  {letter.parked_at.isoformat()}")
    print(f"error      {_printable(letter.error)}")
    print(f"timestamp  {letter.produced_at}")
    print(f"key        {_bytes(letter.key)}")
    for name, value in letter.headers:
        print(f"header     {_printable(name)}: {_bytes(value)}")
    print(f"value      {_bytes(letter.value, 'none (erased)' if letter.error == ERASED else 'none (a tombstone)')}")
    return 0


async def _settle(known: Settings, letters: DeadLetters, options: argparse.Namespace) -> int:
    from stores.dead_letters import NOT_PARKED

    if bool(options.ids) == options.all:
        print("yeoul: name the ids, or --all", file=sys.stderr)
        return 2
    if options.action == "drop" and options.all and not options.yes and not await _agreed(letters, options.group):
        return 1
    count = 0
    left: dict[int, str] = {}
    async for chosen in _chosen(letters, options):
        whys = await (_drop(letters, chosen) if options.action == "drop" else _replay(known, letters, chosen))
        count += len(chosen) - len(whys)
        left |= whys
    words = "dropped" if options.action == "drop" else "sent again, or left to their group; what fails is parked again"
    print(f"{count} {words}")
    for why in dict.fromkeys(left.values()):
        ids = [str(id) for id, its in left.items() if its == why]
        # What can't be sent stays parked, and comes again with each --all.
        way_out = "" if why == NOT_PARKED else f"; ./yeoul dead-letters drop {' '.join(ids)} gives it up"
        print(f"yeoul: {why}: {', '.join(ids)}{way_out}", file=sys.stderr)
    there = {letter.id for letter in await letters.named(options.ids)}
    missing = [id for id in options.ids if id not in there]
    if missing:
        print(f"yeoul: there is no dead letter {', '.join(map(str, missing))}", file=sys.stderr)
    return 1 if left or missing else 0


async def _chosen(letters: DeadLetters, options: argparse.Namespace) -> AsyncIterator[list[Listed]]:
    """What is to be settled, oldest first, a piece at a time."""
    from stores.postgres import PIECE

    if options.ids:
        yield await letters.named(options.ids)
        return
    # What fails again meanwhile is parked behind it.
    after, newest = 0, await letters.newest()
    while found := await letters.listed(group=options.group, state="parked", topic=None, limit=PIECE, after=after):
        after = found[-1].id
        yield [letter for letter in found if letter.id <= newest]
        if after >= newest:
            return


async def _replay(known: Settings, letters: DeadLetters, chosen: list[Listed]) -> dict[int, str]:
    from streams.replay import replay

    return await replay(known, letters, chosen)


async def _drop(letters: DeadLetters, chosen: list[Listed]) -> dict[int, str]:
    """By id, why those were not dropped that were not."""
    from stores.dead_letters import NOT_PARKED

    return {letter.id: NOT_PARKED for letter in chosen if not await letters.settle(letter.id, "dropped")}


async def _agreed(letters: DeadLetters, group: str | None) -> bool:
    """Whether a person at a terminal wants all of them dropped."""
    counts = await letters.counts()
    count = sum(counts.values()) if group is None else counts.get(group, 0)
    if not sys.stdin.isatty():
        print(f"yeoul: this would drop {count} of {group or 'all groups'}; if you mean it: --yes", file=sys.stderr)
        return False
    print(f"drop {count} of {group or 'all groups'}? Type yes: ", end="", flush=True)
    return sys.stdin.readline().strip() == "yes"


def _bytes(raw: bytes | None, none: str = "none") -> str:
    if raw is None:
        return none
    text = raw.decode(errors="backslashreplace")
    return _printable(text if len(text) <= 4000 else f"{text[:4000]}… ({len(raw)} bytes)")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
