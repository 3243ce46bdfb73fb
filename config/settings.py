"""The table of every setting, and the frozen object they become."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from config.mail import MAIL, unmet
from config.shields import SHIELDS, Limit, Network
from config.telemetry import TELEMETRY
from config.variables import (
    Refused,
    SettingsError,
    Variable,
    address,
    example,
    folder,
    key,
    keys,
    named_keys,
    one_of,
    render_key,
    render_keys,
    render_named_keys,
    seconds,
    servers,
    shown,
    weak,
    whole,
    words,
)

ENVIRONMENTS = ("local", "dev", "staging", "production")
LEVELS = ("debug", "info", "warning", "error", "critical")
HOST = words(r"[A-Za-z0-9.:_-]{1,253}", "a host name or an address")
UNMET = Limit(1_000_000, 10)
"""What stands for every limit in the local environment: in force, and met by nobody."""
HOW_TO_KEY = "32 random bytes in base64: openssl rand -base64 32"

VARIABLES: tuple[Variable, ...] = (
    Variable(
        "YEOUL_ENVIRONMENT", "environment", "local", "Which file of config/environments/ applies", one_of(*ENVIRONMENTS)
    ),
    Variable("YEOUL_KAFKA_URL", "kafka_url", "", "Kafka's bootstrap servers, host:port[,host:port]", servers),
    Variable(
        "YEOUL_POSTGRES_URL",
        "postgres_url",
        "",
        "PostgreSQL; a unix socket by ?host=/folder",
        address("postgresql", "postgres"),
        secret=True,
    ),
    Variable("YEOUL_REDIS_URL", "redis_url", "", "Redis or Valkey", address("redis", "rediss", "unix"), secret=True),
    Variable(
        "YEOUL_TOPIC_PREFIX",
        "topic_prefix",
        "yeoul",
        "First part of the names of topics and groups",
        words(r"[a-z0-9][a-z0-9_-]{0,63}", "1 to 64 of a-z 0-9 _ -"),
    ),
    Variable("YEOUL_WEB_HOST", "web_host", "127.0.0.1", "Where the front listens", HOST),
    Variable("YEOUL_WEB_PORT", "web_port", "8080", "The front's port; 0 lets the system choose", whole(0, 65535)),
    Variable("YEOUL_WEB_PROCESSES", "web_processes", "2", "Front processes on that port", whole(1, 256)),
    Variable("YEOUL_METRICS_HOST", "metrics_host", "127.0.0.1", "Where health and metrics are served", HOST),
    Variable("YEOUL_METRICS_PORT", "metrics_port", "0", "Port of health and metrics; 0 is off", whole(0, 65535)),
    Variable(
        "YEOUL_ANSWER_WAIT",
        "answer_wait_s",
        "5",
        "Seconds a write waits for its answer before 202",
        seconds(0, 60),
        lambda value: f"{value:g}",
    ),
    Variable(
        "YEOUL_BODY_LIMIT",
        "body_limit",
        "1048576",
        "Longest request body in bytes",
        # A command is its body, its envelope, and what JSON may add when numbers are written out.
        whole(1024, 4 * 1048576, "a command made of it has to fit into the 8 MiB that a topic takes"),
    ),
    Variable("YEOUL_LANGUAGE", "language", "en", "Messages when the client asks for no language", one_of("ko", "en")),
    Variable(
        "YEOUL_REGISTRATION",
        "registration",
        "open",
        "private: never tells whether an address is taken",
        one_of("open", "private"),
    ),
    Variable("YEOUL_LOG_LEVEL", "log_level", "info", "Least level that is logged", one_of(*LEVELS)),
    Variable(
        "YEOUL_LOG_FORMAT",
        "log_format",
        "auto",
        "auto: text on a terminal, JSON elsewhere",
        one_of("auto", "text", "json"),
    ),
    Variable("YEOUL_STATE_DIR", "state_dir", "./.yeoul", "Where `up` keeps data, logs, and secrets", folder),
    Variable(
        "YEOUL_CACHE_DIR", "cache_dir", "~/.cache/yeoul", "Where the broker's files are kept for all clones", folder
    ),
    Variable(
        "YEOUL_METRICS_FILE", "metrics_file", "./config/metrics.toml", "Declares the metrics: docs/analytics.md", folder
    ),
    Variable("YEOUL_POSTGRES_POOL", "postgres_pool", "8", "Connections to PostgreSQL for each process", whole(2, 200)),
    Variable("YEOUL_COMMAND_KEY", "command_key", "", f"Signs commands: {HOW_TO_KEY}", key, render_key, secret=True),
    Variable("YEOUL_INDEX_KEY", "index_key", "", f"Finds sealed addresses: {HOW_TO_KEY}", key, render_key, secret=True),
    Variable(
        "YEOUL_CURSOR_KEY", "cursor_key", "", f"Encrypts list cursors: {HOW_TO_KEY}", key, render_key, secret=True
    ),
    Variable(
        "YEOUL_SEALING_KEY",
        "sealing_keys",
        "",
        f"Wraps the accounts' keys, newest[,older]: {HOW_TO_KEY}",
        keys,
        render_keys,
        secret=True,
    ),
    Variable(
        "YEOUL_TOKEN_KEYS",
        "token_keys",
        "",
        "Ed25519 seeds, kid:base64[,…]; the first signs, all verify",
        named_keys,
        render_named_keys,
        secret=True,
    ),
    *SHIELDS,
    *TELEMETRY,
    *MAIL,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that may differ between two installations. Times in seconds, sizes in bytes."""

    environment: str = "local"
    kafka_url: str = ""
    postgres_url: str = ""
    redis_url: str = ""
    topic_prefix: str = "yeoul"
    web_host: str = "127.0.0.1"
    web_port: int = 8080
    web_processes: int = 2
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    answer_wait_s: float = 5.0
    body_limit: int = 1_048_576
    language: str = "en"
    registration: str = "open"
    log_level: str = "info"
    log_format: str = "auto"
    state_dir: Path = Path(".yeoul")
    cache_dir: Path = msgspec.field(default_factory=lambda: folder("~/.cache/yeoul"))
    metrics_file: Path = Path("config/metrics.toml")
    postgres_pool: int = 8
    command_key: bytes = b""
    index_key: bytes = b""
    cursor_key: bytes = b""
    sealing_keys: tuple[bytes, ...] = ()
    token_keys: tuple[tuple[str, bytes], ...] = ()
    trusted_proxies: tuple[Network | str, ...] = ()
    forwarded_header: str = "x-forwarded-for"
    cors_origins: tuple[str, ...] = ()
    admin_networks: tuple[Network, ...] = ()
    connections: int = 4096
    connections_address: int = 4096
    header_timeout_s: float = 10.0
    body_timeout_s: float = 15.0
    idle_timeout_s: float = 75.0
    limit_auth_address: Limit = UNMET
    limit_login_address: Limit = UNMET
    limit_login_account: Limit = UNMET
    limit_api_key_address: Limit = UNMET
    limit_read_address: Limit = UNMET
    limit_read_user: Limit = UNMET
    limit_search_address: Limit = UNMET
    limit_search_user: Limit = UNMET
    limit_write_address: Limit = UNMET
    limit_write_user: Limit = UNMET
    sentry_dsn: str = ""
    otlp_endpoint: str = ""
    otlp_headers: tuple[tuple[str, str], ...] = ()
    trace_ratio: float = 1.0
    smtp_url: str = ""
    mail_from: str = "Yeoul <yeoul@localhost>"
    public_url: str = ""
    email_verification: str = "optional"

    def environ(self) -> dict[str, str]:
        """The variables that make an equal `Settings` in a child process; they hold secrets."""
        pairs = ((variable, getattr(self, variable.attribute)) for variable in VARIABLES)
        return {variable.name: variable.render(value) for variable, value in pairs if value not in (b"", "", ())}

    def __repr__(self) -> str:
        """Every field, with secrets hidden."""
        fields = ", ".join(
            f"{variable.attribute}={'<hidden>' if variable.secret else repr(getattr(self, variable.attribute))}"
            for variable in VARIABLES
        )
        return f"Settings({fields})"


def environment(name: str) -> dict[str, Any]:
    """The data of one environment: `required`, `refuse_examples`, `defaults` (texts by variable)."""
    path = Path(__file__).parent / "environments" / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def load(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` asks for.

    Raises `SettingsError` with one sentence for each variable that is wrong or missing, all at once. A variable
    that is set to nothing counts as not set: orchestrators cannot always leave one out.
    """
    complaints: list[str] = []
    name = environ.get("YEOUL_ENVIRONMENT") or "local"
    if name not in ENVIRONMENTS:
        raise SettingsError([f"YEOUL_ENVIRONMENT is {shown(name)}; allowed: {', '.join(ENVIRONMENTS)}"])
    rules = environment(name)
    texts = {
        variable.name: environ.get(variable.name) or rules["defaults"].get(variable.name, variable.default)
        for variable in VARIABLES
    }
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        try:
            values[variable.attribute] = variable.parse(texts[variable.name])
        except Refused as refusal:
            complaints.append(f"{variable.name} {refusal}")
    known = {variable.name for variable in VARIABLES}
    complaints += [
        f"{given} is no setting of Yeoul; the nearest is {near}"
        for given in sorted(environ)
        if (near := _misspelt(given, known)) is not None
    ]
    complaints += [
        f"{missing} is missing; the environment {name} needs it" for missing in rules["required"] if not texts[missing]
    ]
    complaints += unmet(name, values)
    if rules["refuse_examples"]:
        complaints += _unfit(texts, values)
    if complaints:
        raise SettingsError(complaints)
    return Settings(**values)


def _misspelt(given: str, known: set[str]) -> str | None:
    """The known variable that `given` was probably meant to be; others' YEOUL_… names are left alone."""
    import difflib

    if not given.startswith("YEOUL_") or given in known:
        return None
    return next(iter(difflib.get_close_matches(given, sorted(known), n=1, cutoff=0.9)), None)


def _unfit(texts: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """Complaints about secrets that are documented examples, not random, or used twice."""
    secrets = [variable for variable in VARIABLES if variable.secret]
    found = [example(variable.name, texts[variable.name]) for variable in secrets]
    known: dict[str, bytes] = {
        variable.name: cast("bytes", values[variable.attribute])
        for variable in secrets
        if variable.parse is key and values.get(variable.attribute)
    }
    for number, sealing in enumerate(values.get("sealing_keys", ()), start=1):
        known["YEOUL_SEALING_KEY" if number == 1 else f"YEOUL_SEALING_KEY (number {number})"] = sealing
    known |= {f"YEOUL_TOKEN_KEYS ({kid})": seed for kid, seed in values.get("token_keys", ())}
    examples = [complaint for complaint in found if complaint is not None]
    flawed = {complaint.partition(" ")[0] for complaint in examples}
    weaknesses = [weak(name, known) for name in known if name.partition(" ")[0] not in flawed]
    return examples + [complaint for complaint in weaknesses if complaint is not None]
