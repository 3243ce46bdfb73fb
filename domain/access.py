"""Who may do what. Asked in the front for early answers, and asked again in `decide`, which is the one that counts."""

from enum import StrEnum
from uuid import UUID

import msgspec


class Role(StrEnum):
    """What one may do: an admin everything, a user what its own needs, a guest (no token) reads what is public."""

    ADMIN = "admin"
    USER = "user"
    GUEST = "guest"


class Scope(StrEnum):
    """What a token or an API key may be used for, in the order in which they are shown; none implies another."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


SCOPES: dict[Role, tuple[Scope, ...]] = {
    Role.ADMIN: (Scope.READ, Scope.WRITE, Scope.ADMIN),
    Role.USER: (Scope.READ, Scope.WRITE),
    Role.GUEST: (Scope.READ,),
}
"""What a role may do. An API key has some of what its account's role has."""


class Visibility(StrEnum):
    """Who may read an object besides its owner and the admins: everybody, or nobody."""

    PUBLIC = "public"
    PRIVATE = "private"


class Actor(msgspec.Struct, frozen=True):
    """Who asks. A guest has no `id`; the system itself is an admin without one (`SYSTEM`)."""

    id: UUID | None
    role: Role


GUEST = Actor(None, Role.GUEST)
SYSTEM = Actor(None, Role.ADMIN)


def may_create(actor: Actor) -> bool:
    """An object needs an owner, so whoever creates one must be somebody."""
    return actor.id is not None and actor.role is not Role.GUEST


def may_read(actor: Actor, owner_id: UUID, visibility: str) -> bool:
    """True if `actor` may know that the object exists; whoever may not is told NOT_FOUND, never FORBIDDEN."""
    return visibility == Visibility.PUBLIC or actor.role is Role.ADMIN or actor.id == owner_id


def may_change(actor: Actor, owner_id: UUID) -> bool:
    """True if `actor` may update or delete an object of `owner_id`."""
    return actor.role is Role.ADMIN or (actor.role is Role.USER and actor.id == owner_id)


def may_see(actor: Actor, public: bool) -> bool:
    """True if `actor` may know of a metric: everybody of a public one, else admins; for others it is not there."""
    return public or actor.role is Role.ADMIN
