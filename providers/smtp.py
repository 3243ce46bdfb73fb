"""Mail by SMTP (RFC 5321): encrypted, unless the server is on this machine or the settings say otherwise.

`smtps://` is TLS from the first byte (port 465), `smtp://` is upgraded by STARTTLS before anything is said (port 587);
a server that offers none is not spoken to. `?tls=off` leaves it out, and so does a server on loopback.
"""

import asyncio
import contextlib
import re
import ssl
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import format_datetime
from ipaddress import ip_address
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from providers.mail import MailAway, MailDeferred, MailRefused, Message, Unsendable

TIMEOUT_S = 10.0
"""How long the server may take for one mail, seconds, all told."""
_PORTS = {"smtp": 587, "smtps": 465}
_SPECIAL = frozenset('()<>[]:;@\\," ')
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")


class Smtp:
    """One connection to the server of a URL, kept while there is something to send."""

    def __init__(self, url: str, sender: str, *, context: ssl.SSLContext | None = None) -> None:
        """`sender`: as `Name <address>`. `context`: for certificates that the system does not trust, in tests."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        implicit = parts.scheme == "smtps"
        plain = parse_qs(parts.query).get("tls") == ["off"] or _is_loopback(host)
        self._sender = mailbox(sender)
        self._client = aiosmtplib.SMTP(
            hostname=host,
            port=parts.port or _PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            use_tls=implicit,
            start_tls=not (implicit or plain),
            tls_context=context,
            timeout=TIMEOUT_S,
            # Else the library asks the resolver, which may take long, and tells what this machine is called.
            local_hostname=self._sender.domain.encode("idna").decode(),
        )

    async def send(self, message: Message) -> None:
        """See Mail.send."""
        written = _written(message, self._sender)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._deliver(written)
        except TimeoutError:
            self._client.close()
            raise MailAway(f"the mail server does not answer within {TIMEOUT_S:.0f} s") from None

    async def _deliver(self, written: EmailMessage) -> None:
        try:
            if not self._client.is_connected:
                await self._client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            self._client.close()
            raise MailAway(_about(error)) from None
        try:
            await self._client.send_message(written)
        except aiosmtplib.SMTPNotSupported:
            raise MailRefused("the mail server takes no addresses that are not ASCII (SMTPUTF8)") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise self._refusal(error.recipients[0]) from None
        except aiosmtplib.SMTPResponseException as error:
            raise self._refusal(error) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            self._client.close()
            raise MailAway(_about(error)) from None
        except ValueError:
            raise Unsendable("no address") from None

    async def rest(self) -> None:
        """See Mail.rest."""
        if self._client.is_connected:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await self._client.quit()
        self._client.close()

    def _refusal(self, error: aiosmtplib.SMTPResponseException) -> Exception:
        if error.code == 421 or not self._client.is_connected:  # RFC 5321: it is about to close the connection
            self._client.close()
            return MailAway(_about(error))
        # What the server says of it may name the address: only its numbers are passed on.
        numbers = [str(error.code), *_ENHANCED.findall(error.message)[:1]]
        said = f"the mail server answers {' '.join(numbers)}"
        return MailRefused(said) if error.code >= 500 else MailDeferred(said)


def mailbox(text: str) -> Address:
    """`Name <address>` or an address alone. Raises ValueError."""
    name, bracket, rest = text.rpartition("<")
    address = rest.removesuffix(">") if bracket else text
    if bracket and not rest.endswith(">"):
        raise ValueError("no address that ends with >")
    try:
        return Address(name.strip().strip('"'), addr_spec=address.strip())
    except (HeaderParseError, ValueError, IndexError):
        raise ValueError("no address") from None


def _written(message: Message, sender: Address) -> EmailMessage:
    """The mail with its headers, none of which anybody can add to."""
    written = EmailMessage(policy=POLICY)
    try:
        to = _recipient(message.to)
        written["From"], written["To"] = sender, to
        if len(written["To"].addresses) != 1 or written["To"].defects:
            raise Unsendable("no address")
        written["Subject"] = message.subject
    except (HeaderParseError, ValueError, IndexError, UnicodeError):
        raise Unsendable("no address") from None
    written["Message-ID"] = f"<{message.id}@{sender.domain}>"
    written["Date"] = format_datetime(datetime.now(UTC))
    written["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer of a holiday is wanted
    written.set_content(message.text, cte="7bit" if message.text.isascii() else "base64")
    written["Content-Language"] = message.language  # after the content, which replaces what is said of it
    return written


def _recipient(text: str) -> Address:
    """The address with its domain as every server knows it. Raises Unsendable, ValueError, HeaderParseError."""
    user, _, domain = text.rpartition("@")
    if not user.isascii() and _SPECIAL.isdisjoint(user) and user.isprintable():
        return Address(username=user, domain=domain.encode("idna").decode())  # RFC 6531: `email` takes no text of one
    read = Address(addr_spec=text)
    return Address(username=read.username, domain=read.domain.encode("idna").decode())


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _about(error: Exception) -> str:
    """What went wrong, without what the server was told."""
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return f"the mail server does not take the user and password of YEOUL_SMTP_URL ({error.code})"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"the mail server answers {error.code}"
    return f"the mail server can't be reached: {type(error).__name__}"
