"""The table of resources: how a state becomes a row, and a row a state."""

from typing import Any

import msgspec

from domain.access import Visibility
from domain.resources import Resource
from stores.aggregates import Column, Table
from stores.vectors import vector

_to_json = msgspec.json.Encoder().encode
_COLUMNS = (
    "id uuid, kind text, title text, body text, tags json, attributes json, visibility text, status text, "
    "owner_id uuid, version bigint, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz"
)
_NAMED = [(name, kind) for name, _, kind in (column.partition(" ") for column in _COLUMNS.split(", "))]
_VISIBILITY = {value.value: value for value in Visibility}

READ = ", ".join(name for name, _ in _NAMED)
"""The columns that a state is made of."""


def _row(state: Resource) -> tuple[Any, ...]:
    return (
        state.id, state.kind, state.title, state.body, _to_json(state.tags).decode(),
        _to_json(state.attributes).decode(), state.visibility.value, state.status, state.owner_id, state.version,
        state.created_at, state.updated_at, state.deleted_at, vector(state),
    )  # fmt: skip


def state_from(row: Any) -> Resource:
    """The state in a row of `READ`."""
    return Resource(
        row["id"], row["kind"], row["title"], row["body"], tuple(msgspec.json.decode(row["tags"])),
        msgspec.json.decode(row["attributes"]), _VISIBILITY[row["visibility"]], row["status"], row["owner_id"],
        row["version"], row["created_at"], row["updated_at"], row["deleted_at"],
    )  # fmt: skip


TABLE = Table(
    "resources",
    (*(Column(name, kind) for name, kind in _NAMED), Column("search", "tsvector", derived=True)),
    _row,
    state_from,
)
