"""Every topic of Yeoul, as data: the table of contents of what travels through Kafka.

A topic's full name is ``{prefix}.{name}``; the prefix (``yeoul`` unless set) lets several installations share a
cluster. Partition counts are fixed: the partition of an aggregate decides who owns it, so growing a topic is a
documented procedure that drains first, never a side effect of a start.
"""

from datetime import timedelta
from enum import StrEnum

import msgspec

MEBIBYTE = 1024 * 1024


class Repeats(StrEnum):
    """How a reader recognises a record that it has handled before."""

    OPERATION = "operation"
    """A command: its operation id is looked up in the table of operations."""
    SEQUENCE = "sequence"
    """An event of ours: `sequence` only grows within a partition, what is not above the highest applied is a repeat."""
    RECENT = "recent"
    """Anybody's event: an equal (source, id) among the last 50,000 records of the partition."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic: what it is named, who writes it, how long it remembers, and what it may carry."""

    name: str
    """Name without the installation's prefix."""
    key: str
    """What the record key is; equal keys stay in order."""
    owner: str
    """Who writes it: a consumer group, `web`, several of these, or `anybody`; of a topic of events the only one."""
    carries: str
    """One line for the reader of this page and for AsyncAPI."""
    repeats: Repeats
    partitions: int = 4
    retention: timedelta = timedelta(days=7)
    cleanup: str = "delete"
    broker_time: bool = False
    """Whether a record's time is the broker's, when the log took it, and not what its producer says."""
    max_bytes: int = 8 * MEBIBYTE
    """Largest record batch the broker takes, bytes."""

    def full_name(self, prefix: str) -> str:
        """The name on the broker."""
        return f"{prefix}.{self.name}"


COMMANDS_ACCOUNTS = Topic(
    name="commands.accounts", key="account id", owner="web", repeats=Repeats.OPERATION,
    carries="signed commands for accounts: create_account, change_role, update_account, change_password, "
    "disable_account, enable_account, erase_account, request_reset, reset_password, request_verification, "
    "verify_email, request_email_change, confirm_email_change, note_registration",
)  # fmt: skip
COMMANDS_RESOURCES = Topic(
    name="commands.resources", key="resource id", owner="web, erasures", repeats=Repeats.OPERATION,
    carries="signed commands for resources: create_resource, update_resource, delete_resource, restore_resource, "
    "erase_resource",
)  # fmt: skip
COMMANDS_KINDS = Topic(
    name="commands.kinds", key="id of the kind", owner="web", repeats=Repeats.OPERATION, partitions=1,
    carries="signed commands for kinds: put_kind, delete_kind",
)  # fmt: skip
COMMANDS_SESSIONS = Topic(
    name="commands.sessions", key="account id", owner="web, revocations", repeats=Repeats.OPERATION,
    carries="signed commands for sessions: start_session, refresh_session, revoke_session, revoke_sessions",
)  # fmt: skip
COMMANDS_API_KEYS = Topic(
    name="commands.api_keys", key="account id", owner="web, revocations", repeats=Repeats.OPERATION,
    carries="signed commands for API keys: create_api_key, revoke_api_key, revoke_api_keys",
)  # fmt: skip
COMMANDS_SECOND_FACTORS = Topic(
    name="commands.second_factors", key="account id", owner="web, revocations", repeats=Repeats.OPERATION,
    carries="signed commands for second factors: begin_second_factor, confirm_second_factor, use_second_factor, "
    "renew_recovery_codes, remove_second_factor, reset_second_factor",
)  # fmt: skip
EVENTS_ACCOUNTS = Topic(
    name="events.accounts", key="account id", owner="accounts", repeats=Repeats.SEQUENCE,
    carries="what happened to accounts; partition p is fed by the owner of command partition p",
)  # fmt: skip
EVENTS_RESOURCES = Topic(
    name="events.resources", key="resource id", owner="resources", repeats=Repeats.SEQUENCE,
    carries="what happened to resources; partition p is fed by the owner of command partition p",
)  # fmt: skip
EVENTS_KINDS = Topic(
    name="events.kinds", key="id of the kind", owner="kinds", repeats=Repeats.SEQUENCE, partitions=1,
    carries="which schemas the attributes of resources must satisfy",
)  # fmt: skip
INGEST = Topic(
    name="ingest", key="subject or id", owner="anybody", repeats=Repeats.RECENT, broker_time=True,
    carries="CloudEvents of other systems, structured or binary mode",
)  # fmt: skip
EVENTS_SESSIONS = Topic(
    name="events.sessions", key="account id", owner="sessions", repeats=Repeats.SEQUENCE,
    carries="what happened to the sessions of accounts; partition p is fed by the owner of command partition p",
)  # fmt: skip
EVENTS_API_KEYS = Topic(
    name="events.api_keys", key="account id", owner="api_keys", repeats=Repeats.SEQUENCE,
    carries="what happened to the API keys of accounts; partition p is fed by the owner of command partition p",
)  # fmt: skip
EVENTS_SECOND_FACTORS = Topic(
    name="events.second_factors", key="account id", owner="second_factors", repeats=Repeats.SEQUENCE,
    carries="what happened to the second factors of accounts; partition p is fed by the owner of command partition p",
)  # fmt: skip
DEAD_LETTER_PARKED = "dead_letter.parked"
"""Type of the events in it."""
DEAD_LETTERS = Topic(
    name="dead_letters", key="group", owner="every group", repeats=Repeats.RECENT, partitions=1,
    retention=timedelta(days=30), carries="a copy of each record that was parked, after its row was written",
)  # fmt: skip

TOPICS: tuple[Topic, ...] = (
    COMMANDS_ACCOUNTS,
    COMMANDS_RESOURCES,
    COMMANDS_KINDS,
    COMMANDS_SESSIONS,
    COMMANDS_API_KEYS,
    COMMANDS_SECOND_FACTORS,
    EVENTS_ACCOUNTS,
    EVENTS_RESOURCES,
    EVENTS_KINDS,
    EVENTS_SESSIONS,
    EVENTS_API_KEYS,
    EVENTS_SECOND_FACTORS,
    INGEST,
    DEAD_LETTERS,
)

COMMANDS_OF = {
    "accounts": COMMANDS_ACCOUNTS,
    "resources": COMMANDS_RESOURCES,
    "kinds": COMMANDS_KINDS,
    "sessions": COMMANDS_SESSIONS,
    "api_keys": COMMANDS_API_KEYS,
    "second_factors": COMMANDS_SECOND_FACTORS,
}
EVENTS_OF = {
    "accounts": EVENTS_ACCOUNTS,
    "resources": EVENTS_RESOURCES,
    "kinds": EVENTS_KINDS,
    "sessions": EVENTS_SESSIONS,
    "api_keys": EVENTS_API_KEYS,
    "second_factors": EVENTS_SECOND_FACTORS,
}
