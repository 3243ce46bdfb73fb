"""Refresh tokens: what they tell, what is kept of them, and what comes after one."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.refresh import RefreshToken, same

ACCOUNT, SESSION = UUID(int=1), UUID(int=2)
KEY = b"k" * 32


def test_a_token_is_read_as_it_was_written() -> None:
    token = RefreshToken.first(ACCOUNT, SESSION)
    assert RefreshToken.read(token.text) == token
    assert (token.account, token.session) == (ACCOUNT, SESSION)
    assert RefreshToken.first(ACCOUNT, SESSION) != token


TEXT = RefreshToken.first(ACCOUNT, SESSION).text


@pytest.mark.parametrize(
    "text",
    ["", TEXT[:-1], TEXT + "A", "r2." + TEXT[3:], TEXT.replace(".", ""), TEXT[:-1] + "é", TEXT[:-1] + "=", TEXT * 2],
)
def test_what_has_another_form_is_none(text: str) -> None:
    assert RefreshToken.read(TEXT) is not None
    assert RefreshToken.read(text) is None


@given(st.text())
def test_any_text_is_no_token(text: str) -> None:
    assert RefreshToken.read(text) is None
    assert RefreshToken.read("r1." + text) is None


def test_tokens_of_a_session_share_its_family_and_nothing_else() -> None:
    first = RefreshToken.first(ACCOUNT, SESSION)
    following = first.next(KEY, None)
    assert first.next(KEY, None) != following
    assert following.family_hash("local") == first.family_hash("local")
    assert following.hash("local") != first.hash("local")
    other = RefreshToken.first(ACCOUNT, SESSION)
    assert other.family_hash("local") != first.family_hash("local")


def test_for_an_idempotency_key_it_is_the_same_and_nobody_else_can_tell() -> None:
    first = RefreshToken.first(ACCOUNT, SESSION)
    assert first.next(KEY, "once") == first.next(KEY, "once")
    assert len({first.next(*asked).text for asked in ((KEY, "once"), (KEY, "twice"), (b"o" * 32, "once"))}) == 3


def test_hashes_are_of_one_environment() -> None:
    token = RefreshToken.first(ACCOUNT, SESSION)
    for hashed in (token.hash, token.family_hash):
        assert len(hashed("local")) == 64
        assert not same(hashed("local"), hashed("production"))
        assert same(hashed("local"), hashed("local"))
    assert token.hash("local") != token.family_hash("local")
