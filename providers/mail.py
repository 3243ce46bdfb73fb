"""A mail, and the interface of whoever delivers it."""

from typing import Protocol

import msgspec


class Message(msgspec.Struct, frozen=True):
    """A mail of plain text to one address. `id`: unique, the same for the same mail however often it is sent."""

    id: str
    to: str
    subject: str
    text: str
    language: str = "en"


class MailAway(Exception):
    """The mail server can't be used now, or not with what the settings say; try again in a moment."""


class MailDeferred(Exception):
    """The mail server does not take this mail now; it may later."""


class MailRefused(Exception):
    """The mail server does not take this mail, now or ever. The text names no address."""


class Unsendable(Exception):
    """There is no such address by the rules of mail, whatever server is asked."""


class Mail(Protocol):
    """Delivers mails, one after the other."""

    async def send(self, message: Message) -> None:
        """Returns once a server has taken it. Raises MailAway, MailDeferred, MailRefused, Unsendable."""

    async def rest(self) -> None:
        """There is nothing more to send for now."""
