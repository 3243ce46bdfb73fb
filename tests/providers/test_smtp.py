"""SMTP over a socket: a server that takes, refuses, is encrypted, or is not there; and what is said to it."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers import smtp
from providers.mail import MailAway, MailDeferred, MailRefused, Message, Unsendable
from providers.smtp import Smtp, mailbox

SENDER = "Example <no-reply@example.org>"
MAIL = Message("0190.0", "han@example.org", "비밀번호 재설정", "안녕하세요\n\n.\ntoken\n", "ko")


class Server:
    """Keeps what comes; `answers` are what it says to RCPT and DATA instead."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.sessions: list[Session] = []
        self.recipient = ""
        self.data = ""

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient:
            return self.recipient
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data:
            return self.data
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=email.policy.default)))
        self.sessions.append(session)
        return "250 taken"


@asynccontextmanager
async def listening(server: Server, *, implicit: ssl.SSLContext | None = None, **how: Any) -> AsyncIterator[int]:
    def made() -> SMTP:
        return SMTP(server, hostname="localhost", enable_SMTPUTF8=how.pop("utf8", False), **how)

    listener = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=implicit)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


@asynccontextmanager
async def sending(url: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Smtp]:
    client = Smtp(url, SENDER, context=context)
    try:
        yield client
    finally:
        await client.rest()


async def test_a_mail_comes_as_it_was_written_and_no_more_than_one_connection_is_made() -> None:
    server = Server()
    async with listening(server) as port, sending(f"smtp://127.0.0.1:{port}") as client:
        await client.send(MAIL)
        await client.send(Message("0190.1", "mina@example.org", "Subject", "text\n"))
    (to, mail), (other, _) = server.mails
    assert (to, other) == (["han@example.org"], ["mina@example.org"])
    headers = ("From", "To", "Subject", "Message-ID", "Auto-Submitted", "Content-Language")
    assert [str(mail[name]) for name in headers] == [
        "Example <no-reply@example.org>", "han@example.org", "비밀번호 재설정", "<0190.0@example.org>",
        "auto-generated", "ko",
    ]  # fmt: skip
    assert abs(mail["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert mail.get_content().replace("\r\n", "\n") == MAIL.text
    assert server.sessions[0] is server.sessions[1]
    assert server.sessions[0].host_name == "example.org"


@pytest.mark.parametrize(
    "address",
    [
        "han@example.org\r\nBcc: all@example.org",
        "han@example.org\nRCPT TO:<all@example.org>",
        "han@example.org,all@example.org",
        "han,all@example.org",
        "<han@example.org>",
        "han>@example.org",
        "han@example.org>",
        'han"@example.org',
        "han@exa mple.org",
        "han@example.org\x00",
        "@example.org",
        "han@",
        "han;all@example.org",
        "group:han@example.org;",
        "",
    ],
)
async def test_an_address_brings_nothing_along(address: str) -> None:
    server = Server()
    async with listening(server) as port, sending(f"smtp://127.0.0.1:{port}") as client:
        with pytest.raises(Unsendable):
            await client.send(Message("1.0", address, "Subject", "text\n"))
        await client.send(MAIL)  # the connection is as good as before
    assert [to for to, _ in server.mails] == [["han@example.org"]]


async def test_a_subject_is_one_line() -> None:
    server = Server()
    async with listening(server) as port, sending(f"smtp://127.0.0.1:{port}") as client:
        with pytest.raises(Unsendable):
            await client.send(Message("1.0", "han@example.org", "Subject\r\nBcc: all@example.org", "text\n"))
    assert server.mails == []


async def test_an_address_in_korean_needs_a_server_that_takes_it() -> None:
    for utf8 in (True, False):
        server = Server()
        async with listening(server, utf8=utf8) as port, sending(f"smtp://127.0.0.1:{port}") as client:
            message = Message("1.0", "한@예시.한국", "Subject", "text\n")
            if utf8:
                await client.send(message)
                assert server.mails[0][0] == ["한@xn--vv4b11d.xn--3e0b707e"]
            else:
                with pytest.raises(MailRefused):
                    await client.send(message)


@pytest.mark.parametrize(
    ("field", "answer", "error", "told"),
    [
        ("recipient", "550 5.1.1 <han@example.org> unknown", MailRefused, "550 5.1.1"),
        ("recipient", "450 4.2.0 greylisted han@example.org", MailDeferred, "450 4.2.0"),
        ("data", "554 han@example.org is spam", MailRefused, "554"),
        ("data", "452 full", MailDeferred, "452"),
        ("data", "421 4.3.2 going down", MailAway, "421"),
    ],
)
async def test_a_refusal_is_told_by_its_numbers_and_names_nobody(
    field: str, answer: str, error: type[Exception], told: str
) -> None:
    server = Server()
    setattr(server, field, answer)
    async with listening(server) as port, sending(f"smtp://127.0.0.1:{port}") as client:
        with pytest.raises(error) as raised:
            await client.send(MAIL)
        assert str(raised.value).endswith(told)
        assert "han" not in str(raised.value)
        setattr(server, field, "")
        await client.send(MAIL)
    assert len(server.mails) == 1


async def test_a_server_that_is_not_there_is_away_and_one_that_is_silent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending("smtp://127.0.0.1:1") as client:
        with pytest.raises(MailAway, match="can't be reached"):
            await client.send(MAIL)
    monkeypatch.setattr(smtp, "TIMEOUT_S", 0.2)
    over = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        async with sending(f"smtp://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as client:
            with pytest.raises(MailAway, match="does not answer"):
                await client.send(MAIL)
        over.set()


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server on 127.0.0.1 and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "mail.pem").write_bytes(private + pem)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "mail.pem")
    return serving, ssl.create_default_context(cadata=pem.decode())


def login(*given: Any) -> AuthResult:
    data = given[-1]
    assert isinstance(data, LoginPassword)
    return AuthResult(success=data == LoginPassword(b"us:er", b"p@ss"), handled=False)


async def test_tls_from_the_first_byte(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    serving, trusting = contexts
    server = Server()
    async with listening(server, implicit=serving) as port:
        async with sending(f"smtps://127.0.0.1:{port}", trusting) as client:
            await client.send(MAIL)
        async with sending(f"smtps://127.0.0.1:{port}") as client:
            with pytest.raises(MailAway):  # nobody says who that is
                await client.send(MAIL)
    assert len(server.mails) == 1


async def test_nothing_is_said_to_a_server_elsewhere_before_it_is_encrypted(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, trusting = contexts
    monkeypatch.setattr(smtp, "_is_loopback", lambda _host: False)
    server = Server()
    async with listening(server) as port:
        async with sending(f"smtp://u:p@127.0.0.1:{port}", trusting) as client:
            with pytest.raises(MailAway):
                await client.send(MAIL)
        assert server.mails == []
        async with sending(f"smtp://127.0.0.1:{port}?tls=off") as client:
            await client.send(MAIL)
    how: Any = {"tls_context": serving, "require_starttls": True, "auth_required": True, "authenticator": login}
    async with listening(server, **how) as port:
        async with sending(f"smtp://us%3Aer:p%40ss@127.0.0.1:{port}", trusting) as client:
            await client.send(MAIL)
        async with sending(f"smtp://us%3Aer:wrong@127.0.0.1:{port}", trusting) as client:
            with pytest.raises(MailAway, match="YEOUL_SMTP_URL") as raised:
                await client.send(MAIL)
            assert "wrong" not in str(raised.value)
    assert [session.ssl is not None for session in server.sessions] == [False, True]


def test_a_mailbox_is_an_address_with_or_without_a_name() -> None:
    assert str(mailbox(SENDER)) == SENDER
    assert str(mailbox("no-reply@example.org")) == "no-reply@example.org"
    for wrong in ("no address", "Example <no-reply@example.org", "a@b\r\nBcc: c@d"):
        with pytest.raises(ValueError, match="no address"):
            mailbox(wrong)
