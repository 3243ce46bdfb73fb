"""`mail`: what the local mail catcher has caught, listed or shown."""

from __future__ import annotations

import argparse
import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

from cli.arguments import OFFSETS, whole
from cli.connection import state
from embedded.errors import EmbeddedError
from embedded.mail import caught, folder

HELP = "list or show the mails that were caught here: nothing leaves the machine until YEOUL_SMTP_URL is set"


class NoMail(EmbeddedError):
    """There is no such mail; the text says which there are."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """One action: list (as without any) or show."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    words = "the mails, newest first"
    listing = actions.add_parser("list", help=words, description=words, allow_abbrev=False)
    listing.add_argument("--limit", type=whole(1, 1_000), default=20, metavar="N", help="at most so many (20)")
    words = "one as it came: the newest, or the one with this number"
    show = actions.add_parser("show", help=words, description=words, allow_abbrev=False)
    show.add_argument("number", type=whole(1, OFFSETS), nargs="?", metavar="NUMBER")
    show.add_argument("--to", metavar="EMAIL", help="the newest to this address")


def run(options: argparse.Namespace) -> int:
    """Returns when it is printed. Raises `NoMail`."""
    paths = caught(folder(state()))
    if not paths:
        raise NoMail("no mail was caught here; ./yeoul up catches what it would send")
    if options.action == "show":
        print(_text(_chosen(paths, options.number, options.to)), end="")
        return 0
    for path in list(reversed(paths))[: getattr(options, "limit", 20)]:
        message = _read(path)
        print(_line(f"{path.stem:>6}  {message['Date'] or '-'}  {message['X-To']}  {message['Subject'] or '-'}"))
    return 0


def _chosen(paths: list[Path], number: int | None, to: str | None) -> Path:
    for path in reversed(paths):
        if number in (None, int(path.stem)) and (to is None or _read(path)["X-To"].strip().lower() == to.lower()):
            return path
    raise NoMail(f"no such mail is kept; there are {paths[0].stem} to {paths[-1].stem}: ./yeoul mail")


def _read(path: Path) -> EmailMessage:
    return email.message_from_bytes(path.read_bytes(), policy=email.policy.default)


def _text(path: Path) -> str:
    """Its headers that people read, and its text. What strangers wrote steers no terminal."""
    message = _read(path)
    headers = [f"{name}: {message[name]}" for name in ("From", "To", "Subject", "Date", "Message-ID") if message[name]]
    part = message.get_body(("plain",))
    body = part.get_content() if part is not None else ""
    return "\n".join([*map(_line, headers), "", *map(_line, body.splitlines()), ""])


def _line(text: str) -> str:
    return "".join(sign if sign.isprintable() else "�" for sign in text)
