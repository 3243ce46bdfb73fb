"""Tokens of mails: made of a nonce by a holder of the key alone, and good beside nothing else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.mail_tokens import LONGEST, MailToken, new_nonce

KEY, ACCOUNT = b"k" * 32, UUID(int=7)


def made(
    key: bytes = KEY, environment: str = "production", purpose: str = "reset", account: UUID = ACCOUNT,
    nonce: str = "0" * 64,
) -> MailToken:  # fmt: skip
    return MailToken.made(key, environment, purpose, account, nonce)


def test_it_is_what_was_made_and_has_256_bits_of_its_own() -> None:
    token = made()
    assert MailToken.read(token.text) == token == made()
    assert len(token.secret) == 32
    assert token.text[3:].replace("-", "").replace("_", "").isalnum()
    assert len({new_nonce() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "other",
    [
        made(key=b"l" * 32),
        made(environment="staging"),
        made(purpose="verify"),
        made(account=UUID(int=8)),
        made(nonce="1" * 64),
    ],
)
def test_another_of_anything_makes_another_token(other: MailToken) -> None:
    assert other.secret != made().secret
    assert other.hash("production", "reset") != made().hash("production", "reset")


def test_its_hash_is_of_one_environment_and_one_purpose() -> None:
    token = made()
    hashes = {token.hash(environment, purpose) for environment in ("production", "dev") for purpose in ("reset", "x")}
    assert len(hashes) == 4
    assert not any(token.secret.hex() in one for one in hashes)


@given(st.text(max_size=LONGEST + 9) | st.binary(max_size=90).map(lambda raw: "m1." + raw.hex()))
def test_any_other_text_is_none(text: str) -> None:
    token = MailToken.read(text)
    assert token is None or token.text == text
