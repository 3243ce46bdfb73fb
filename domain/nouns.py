"""Every noun by its name, for who looks at all of them: which types are ours, and what topics carry."""

from types import ModuleType

from domain import accounts, api_keys, kinds, resources, second_factors, sessions

NOUNS: dict[str, ModuleType] = {
    "accounts": accounts, "api_keys": api_keys, "kinds": kinds, "resources": resources,
    "second_factors": second_factors, "sessions": sessions,
}  # fmt: skip
"""The names are those of topics.COMMANDS_OF and EVENTS_OF; each page has COMMANDS and EVENTS, types by name."""
