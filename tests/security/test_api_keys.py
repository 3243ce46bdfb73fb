"""API keys as texts: what is read, what scanners find, and what is kept of them."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.api_keys import LENGTH, ApiKey

ACCOUNT = UUID(int=1)
KEY = ApiKey.new(ACCOUNT)
TEXT = KEY.text
SCANNED = re.compile(r"\byeoul_[0-9A-Za-z]{71}\b")


@given(st.uuids(), st.binary(min_size=32, max_size=32))
def test_a_key_is_read_as_it_was_written(account: UUID, secret: bytes) -> None:
    key = ApiKey(account, secret)
    assert ApiKey.read(key.text) == key
    assert len(key.text) == LENGTH
    assert SCANNED.findall(f'TOKEN="{key.text}"; more') == [key.text]


def test_no_two_are_alike() -> None:
    assert len({ApiKey.new(ACCOUNT) for _ in range(100)}) == 100


def test_the_checksum_tells_every_typing_error() -> None:
    for place in range(6, LENGTH):
        other = "a" if TEXT[place] != "a" else "b"
        assert ApiKey.read(TEXT[:place] + other + TEXT[place + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    ["", TEXT[:-1], TEXT + "A", " " + TEXT[1:], TEXT.upper(), "yeoul_" + "é" * 71, "yeoul_" + "-" * 71, TEXT * 2],
    ids=["empty", "shorter", "longer", "no prefix", "upper case", "no ASCII", "no digits", "twice"],
)
def test_what_has_another_form_is_none(text: str) -> None:
    assert ApiKey.read(text) is None


def test_digits_beyond_what_a_key_holds_are_none() -> None:
    import zlib

    from security import api_keys

    signs = "yeoul_" + "z" * 65
    assert ApiKey.read(signs + api_keys._digits(zlib.crc32(signs.encode()), 6)) is None


@given(st.text())
def test_any_text_is_no_key(text: str) -> None:
    assert ApiKey.read(text) is None
    assert ApiKey.read("yeoul_" + text) is None


def test_the_hash_is_of_the_whole_key_and_of_the_environment() -> None:
    hashes = {
        KEY.hash("local"),
        KEY.hash("production"),
        ApiKey(UUID(int=2), KEY.secret).hash("local"),
        ApiKey(ACCOUNT, b"\0" * 32).hash("local"),
    }
    assert len(hashes) == 4
    assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes)
