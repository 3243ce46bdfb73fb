"""What the environment may say, and what is said when it may not."""

from __future__ import annotations

import base64
import re
import secrets

import hypothesis
import msgspec
import pytest
from hypothesis import strategies

import config
from config import EXAMPLE_KEY, Settings, SettingsError

NAMES = [variable.name for variable in config.VARIABLES]
REQUIRED = config.environment("production")["required"]


def random_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def production() -> dict[str, str]:
    """An environment that production accepts."""
    environ = {name: random_key() for name in NAMES if name.endswith("_KEY")}
    return environ | {
        "YEOUL_ENVIRONMENT": "production",
        "YEOUL_KAFKA_URL": "a.internal:9092,b.internal:9092",
        "YEOUL_POSTGRES_URL": f"postgresql://app:{secrets.token_hex(8)}@db.internal/yeoul",
        "YEOUL_REDIS_URL": f"rediss://:{secrets.token_hex(8)}@cache.internal:6379/0",
        "YEOUL_TOKEN_KEYS": f"2026-11:{random_key()}",
        "YEOUL_SMTP_URL": f"smtps://app:{secrets.token_hex(8)}@mail.internal",
        "YEOUL_MAIL_FROM": "Example <no-reply@example.org>",
    }


def complaints(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        config.load(environ)
    return list(raised.value.complaints)


def test_nothing_set_is_local_with_every_default() -> None:
    settings = config.load({})
    assert (settings.environment, settings.web_port, settings.answer_wait_s) == ("local", 8080, 5.0)
    assert settings.command_key == b""


def test_defaults_are_the_same_in_the_table_and_in_the_object() -> None:
    assert config.load({}) == Settings()


def test_table_and_object_have_the_same_fields() -> None:
    assert [variable.attribute for variable in config.VARIABLES] == list(Settings.__struct_fields__)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        config.load({}).web_port = 1  # type: ignore[misc]


def test_a_variable_set_to_nothing_is_not_set() -> None:
    assert config.load({"YEOUL_WEB_PORT": "", "YEOUL_COMMAND_KEY": ""}) == config.load({})


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("YEOUL_ENVIRONMENT", "prod", "local, dev, staging, production"),
        ("YEOUL_POSTGRES_POOL", "1", "from 2 to 200"),  # what is made for a batch is made beside its transaction
        ("YEOUL_WEB_PORT", "80a", "from 0 to 65535"),
        ("YEOUL_WEB_PORT", "65536", "from 0 to 65535"),
        ("YEOUL_WEB_PORT", "-1", "from 0 to 65535"),
        ("YEOUL_WEB_PORT", "1_000", "from 0 to 65535"),
        ("YEOUL_WEB_PORT", "٨٠", "from 0 to 65535"),
        ("YEOUL_ANSWER_WAIT", "nan", "from 0 to 60"),
        ("YEOUL_ANSWER_WAIT", "61", "from 0 to 60"),
        ("YEOUL_KAFKA_URL", "kafka://a:1", "host:port"),
        ("YEOUL_KAFKA_URL", "a:1,,b:2", "host:port"),
        ("YEOUL_KAFKA_URL", "a:70000", "host:port"),
        ("YEOUL_POSTGRES_URL", "mysql://a/b", "postgresql://"),
        ("YEOUL_POSTGRES_URL", "postgresql:///yeoul", "postgresql://"),
        ("YEOUL_REDIS_URL", "redis://a:port", "redis://"),
        ("YEOUL_TOPIC_PREFIX", "Not.This", "a-z"),
        ("YEOUL_LANGUAGE", "fr", "ko, en"),
        ("YEOUL_LOG_LEVEL", "loud", "debug"),
        ("YEOUL_COMMAND_KEY", "short", "base64 of exactly 32"),
        ("YEOUL_TOKEN_KEYS", "nokid", "kid:key"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    (line,) = complaints({name: text})
    assert line.startswith(name)
    assert allowed in line.partition("allowed:")[2]


def test_every_wrong_value_is_named_at_once() -> None:
    lines = complaints({"YEOUL_WEB_PORT": "x", "YEOUL_LANGUAGE": "x", "YEOUL_KAFKA_URL": "x"})
    assert [line.split()[0] for line in lines] == ["YEOUL_KAFKA_URL", "YEOUL_WEB_PORT", "YEOUL_LANGUAGE"]


@pytest.mark.parametrize("name", [variable.name for variable in config.VARIABLES if variable.secret])
def test_a_secret_is_never_repeated(name: str) -> None:
    for text in ("hunter2-hunter2", base64.b64encode(b"hunter2-hunter2").decode(), f"kid:{'hunter2' * 9}"):
        with pytest.raises(SettingsError) as raised:
            config.load({name: text})
        assert "hunter2" not in str(raised.value)
        assert text not in str(raised.value)


def test_a_long_value_is_cut() -> None:
    (line,) = complaints({"YEOUL_LANGUAGE": "x" * 5000})
    assert len(line) < 200


def test_a_misspelt_variable_is_told() -> None:
    (line,) = complaints({"YEOUL_WEBPORT": "80"})
    assert "YEOUL_WEB_PORT" in line


def test_variables_of_others_are_left_alone() -> None:
    assert config.load({"YEOUL_TEST_FULL": "1", "WEB_PORT": "x", "PATH": "/bin"}) == config.load({})


@pytest.mark.parametrize("environment", ["dev", "staging", "production"])
def test_shared_environments_name_everything_that_is_missing(environment: str) -> None:
    lines = complaints({"YEOUL_ENVIRONMENT": environment})
    assert {line.split()[0] for line in lines} == set(REQUIRED)
    assert all("missing" in line for line in lines)


def test_production_starts_with_what_it_needs() -> None:
    settings = config.load(production())
    assert settings.log_format == "json"
    assert settings.token_keys[0][0] == "2026-11"


def test_mail_may_be_off_but_not_half_on_nor_where_logins_need_it() -> None:
    off = production() | {"YEOUL_SMTP_URL": "", "YEOUL_MAIL_FROM": ""}
    assert config.load(off).smtp_url == ""
    assert complaints(production() | {"YEOUL_MAIL_FROM": ""}) == ["YEOUL_MAIL_FROM is missing; YEOUL_SMTP_URL needs it"]
    assert complaints(off | {"YEOUL_EMAIL_VERIFICATION": "required"}) == [
        "YEOUL_SMTP_URL is missing; YEOUL_EMAIL_VERIFICATION=required needs it"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("YEOUL_MAIL_FROM", "a@b\nBcc: c@d"), ("YEOUL_MAIL_FROM", "A <a@b>, B <c@d>"), ("YEOUL_MAIL_FROM", "nobody"),
        ("YEOUL_PUBLIC_URL", "https://app.example.org/"), ("YEOUL_PUBLIC_URL", "javascript:alert(1)"),
        ("YEOUL_PUBLIC_URL", "https://app.example.org/#x"), ("YEOUL_SMTP_URL", "http://mail.internal"),
    ],
)  # fmt: skip
def test_what_mails_show_is_what_it_should_be(name: str, text: str) -> None:
    (line,) = complaints({name: text})
    assert line.startswith(name)


@pytest.mark.parametrize("name", ["YEOUL_COMMAND_KEY", "YEOUL_INDEX_KEY", "YEOUL_CURSOR_KEY", "YEOUL_SEALING_KEY"])
def test_production_refuses_the_documented_key(name: str) -> None:
    (line,) = complaints(production() | {name: EXAMPLE_KEY})
    assert line.startswith(name)
    assert "example" in line


def test_production_refuses_a_documented_token_key_and_password() -> None:
    lines = complaints(
        production()
        | {"YEOUL_TOKEN_KEYS": f"a:{EXAMPLE_KEY}", "YEOUL_POSTGRES_URL": "postgresql://yeoul:Example@db.internal/yeoul"}
    )
    assert {line.split()[0] for line in lines} == {"YEOUL_TOKEN_KEYS", "YEOUL_POSTGRES_URL"}


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("YEOUL_POSTGRES_URL", "postgresql:///yeoul?host=db.internal&user=yeoul&password=yeoul"),
        ("YEOUL_POSTGRES_URL", "postgresql:///yeoul?host=db.internal&p%61ssword=%79eoul"),
        ("YEOUL_POSTGRES_URL", "postgresql://yeoul:%79eoul@db.internal/yeoul"),
        ("YEOUL_REDIS_URL", "redis://cache.internal/0?password=Secret"),
        ("YEOUL_REDIS_URL", "rediss://:chang%65me@cache.internal/0"),
        ("YEOUL_REDIS_URL", "unix:///run/valkey.sock?password=%70assword"),
    ],
)
def test_production_refuses_a_documented_password_wherever_clients_take_it_from(name: str, url: str) -> None:
    (line,) = complaints(production() | {name: url})
    assert line.startswith(f"{name} carries an example password")
    for random in ("postgresql:///yeoul?host=db.internal&password=gYx4", "postgresql://yeoul:%67Yx4@yeoul/yeoul"):
        assert config.load(production() | {"YEOUL_POSTGRES_URL": random}).postgres_url == random


def test_production_refuses_a_key_that_is_not_random_or_used_twice() -> None:
    twice = random_key()
    zeros = base64.b64encode(bytes(32)).decode()
    lines = complaints(production() | {"YEOUL_COMMAND_KEY": twice, "YEOUL_INDEX_KEY": twice, "YEOUL_CURSOR_KEY": zeros})
    assert {line.split()[0] for line in lines} == {"YEOUL_CURSOR_KEY", "YEOUL_INDEX_KEY"}


def test_sealing_keys_are_named_newest_first() -> None:
    new, old = random_key(), random_key()
    settings = config.load(production() | {"YEOUL_SEALING_KEY": f"{new},{old}"})
    assert settings.sealing_keys == (base64.b64decode(new), base64.b64decode(old))
    assert config.load(settings.environ()) == settings
    for wrong, said in (
        (f"{new},", "number 2"),
        (f"{new},x", "number 2"),
        (f"{new},{new}", "number 2"),
        ("x", "base64"),
    ):
        (line,) = complaints(production() | {"YEOUL_SEALING_KEY": wrong})
        assert line.startswith("YEOUL_SEALING_KEY")
        assert said in line
        assert new not in line


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_elsewhere_the_documented_key_may_be_tried(environment: str) -> None:
    environ = production() | {"YEOUL_ENVIRONMENT": environment, "YEOUL_COMMAND_KEY": EXAMPLE_KEY}
    assert config.load(environ).environment == environment


def test_the_environment_of_a_child_makes_equal_settings() -> None:
    settings = config.load(production() | {"YEOUL_ANSWER_WAIT": "0.25", "YEOUL_STATE_DIR": "/tmp/a b"})
    assert config.load(settings.environ()) == settings
    assert config.load(config.load({}).environ()) == config.load({})


@hypothesis.given(
    strategies.lists(
        strategies.tuples(
            strategies.from_regex(r"[A-Za-z0-9._-]{1,8}", fullmatch=True), strategies.binary(min_size=32, max_size=32)
        ),
        unique_by=lambda pair: pair[0],
        max_size=4,
    )
)
def test_token_keys_survive_the_way_through_the_environment(keys: list[tuple[str, bytes]]) -> None:
    settings = msgspec.structs.replace(config.load({}), token_keys=tuple(keys))
    assert config.load(settings.environ()).token_keys == tuple(keys)


@hypothesis.given(
    strategies.sampled_from([name for name in NAMES if name != "YEOUL_ENVIRONMENT"]), strategies.text(max_size=60)
)
@hypothesis.example("YEOUL_STATE_DIR", "~nobody-of-this-name")
def test_any_text_gives_settings_or_a_complaint(name: str, text: str) -> None:
    try:
        settings = config.load({name: text})
    except SettingsError as error:
        assert [line.split()[0] for line in error.complaints] == [name]  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(settings, Settings)


def test_secrets_do_not_show() -> None:
    environ = production() | {
        "YEOUL_SENTRY_DSN": "https://0a1b2c3d@sentry.example.org/42",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example.org",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=one",
    }
    shown = repr(config.load(environ))
    hidden = [variable for variable in config.VARIABLES if variable.secret]
    assert shown.count("<hidden>") == len(hidden)
    for variable in hidden:
        assert repr(getattr(config.load(environ), variable.attribute)) not in shown
        assert environ[variable.name] not in shown


def test_each_environment_file_names_only_known_variables() -> None:
    for name in ("local", "dev", "staging", "production"):
        rules = config.environment(name)
        assert set(rules) == {"required", "refuse_examples", "defaults"}
        assert set(rules["required"]) | set(rules["defaults"]) <= set(NAMES)
        assert not {variable.name for variable in config.VARIABLES if variable.secret} & set(rules["defaults"])


def test_every_variable_explains_itself() -> None:
    for variable in config.VARIABLES:
        # Or a name that a standard gives.
        assert re.fullmatch(r"(YEOUL|OTEL)_[A-Z_]+", variable.name)
        assert 10 < len(variable.about) < 100


def test_a_body_that_fits_into_no_topic_can_not_be_allowed() -> None:
    assert config.load({"YEOUL_BODY_LIMIT": "4194304"}).body_limit == 4 << 20
    with pytest.raises(SettingsError, match=r"YEOUL_BODY_LIMIT.*4194304.*8 MiB"):
        config.load({"YEOUL_BODY_LIMIT": "4194305"})


def test_headers_for_a_collector_survive_the_way_and_are_never_shown() -> None:
    given = "X-Tenant=one, authorization=Basic%20c2VjcmV0%2C"
    settings = config.load({"OTEL_EXPORTER_OTLP_HEADERS": given, "YEOUL_TRACE_RATIO": "0.125"})
    assert settings.otlp_headers == (("x-tenant", "one"), ("authorization", "Basic c2VjcmV0,"))
    assert config.load(settings.environ()) == settings
    assert "c2VjcmV0" not in repr(settings)
    for wrong in ("c2VjcmV0", "a b=c2VjcmV0", "a=c2VjcmV0%0A"):
        (complaint,) = complaints({"OTEL_EXPORTER_OTLP_HEADERS": wrong})
        assert "c2VjcmV0" not in complaint


@pytest.mark.parametrize("wrong", ["https://example.org/1", "ftp://secretkey@example.org/1", "secretkey@example.org"])
def test_a_wrong_dsn_is_refused_without_being_shown(wrong: str) -> None:
    (complaint,) = complaints({"YEOUL_SENTRY_DSN": wrong})
    assert complaint.startswith("YEOUL_SENTRY_DSN ")
    assert "secretkey" not in complaint


@pytest.mark.parametrize("wrong", ["1.1", "-0", "half", "0.0000000001", "2"])
def test_a_share_is_from_0_to_1(wrong: str) -> None:
    assert complaints({"YEOUL_TRACE_RATIO": wrong}) == [
        f"YEOUL_TRACE_RATIO is {wrong!r}; allowed: a number from 0 to 1"
    ]
