"""A mail server of its own for tests, which keeps what it takes."""

import asyncio
import email
import email.policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

from domain.mail_texts import SUBJECTS, Kind
from tests.flows.harness import own_port, until

EN = SUBJECTS["en"]


class Server:
    """A mail server at one address, which may be stopped and started; it keeps what it takes."""

    def __init__(self) -> None:
        self.port = own_port()
        self.mails: list[EmailMessage] = []
        self.refuses = ""
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: SMTP(self, hostname="localhost"), "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        await self._listener.wait_closed()

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == self.refuses:
            return f"550 5.1.1 <{address}> unknown"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"

    def to(self, address: str) -> list[str]:
        """The subjects of what an address got."""
        return [str(mail["Subject"]) for mail in self.mails if mail["To"] == address]

    async def token(self, address: str, kind: Kind, number: int = 1) -> str:
        """The token of the number-th mail of a kind to an address, once it is there."""

        async def there() -> list[EmailMessage]:
            found = [mail for mail in self.mails if mail["To"] == address and mail["Subject"] == EN[kind]]
            return found[number - 1 : number]

        (mail,) = await until(there, 30, f"mail {number} {kind} to {address}")
        (token,) = [line for line in mail.get_content().splitlines() if line.startswith("m1.")]
        return str(token)
