"""Passwords of addresses never show in what is said of the servers."""

import msgspec
import pytest

from config import without_passwords
from tests.web.fakes import SETTINGS


@pytest.mark.parametrize(
    ("postgres", "redis", "said", "shown"),
    [
        ("postgresql://yeoul:marker@h/d", "", "marker at h", "*** at h"),
        ("postgresql://yeoul:mar%2Fker@h/d", "", "mar/ker, mar%2Fker", "***, ***"),
        ("postgresql:///d?host=/run&password=marker", "", "'marker'", "'***'"),
        ("", "redis://:marker@h/0", "AUTH marker", "AUTH ***"),
        ("postgresql://yeoul@h/d", "redis://h/0", "nothing to hide", "nothing to hide"),
    ],
)
def test_a_password_is_not_shown(postgres: str, redis: str, said: str, shown: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, postgres_url=postgres, redis_url=redis)
    assert without_passwords(said, settings) == shown
