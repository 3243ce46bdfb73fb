"""The table of roles.py over stores in memory, in both versions. A route that is not in the table fails.

What the worker decides is decided here by the same `decide` (tests/web/fakes.py); tests/flows/test_roles.py asks a
whole installation the same.
"""

import msgspec
import pytest

from domain.access import Role
from domain.mail_texts import Kind
from domain.tables import Table
from tests.web import roles
from tests.web.conftest import Client
from tests.web.fakes import Fakes
from tests.web.roles import OUTSIDE, TABLE, V1, Row, meet
from tests.web.test_analytics import ORDERS, SIGN_UPS
from tests.web.test_dead_letters import letter
from web.routes import API, PLAIN

COMMANDS = {Kind.RESET: "request_reset", Kind.VERIFY: "create_account", Kind.CHANGE: "request_email_change"}
"""Of which each mail comes."""


class World(roles.World):
    def __init__(self, client: Client, fakes: Fakes) -> None:
        super().__init__(client)
        self._fakes = fakes
        fakes.stores.reports.metrics = [ORDERS, SIGN_UPS]
        fakes.stores.watching.serving = {"orders": Table(1, ORDERS), "sign_ups": Table(2, SIGN_UPS)}
        fakes.stores.dead_letters.parked = [letter(1)]

    async def promote(self, name: str) -> None:
        states = self._fakes.stores.accounts.states
        (account,) = [state for state in states.values() if str(state.id) == self.ids[name]]
        states[account.id] = msgspec.structs.replace(account, role=Role.ADMIN)

    async def mailed(self, kind: Kind, address: str) -> str:
        return self._fakes.mailed(COMMANDS[kind])

    async def letter(self) -> int:
        return 1


def test_every_route_is_in_the_table() -> None:
    assert {row.route for row in TABLE} == {f"{method} {path}" for method, path, _, _ in API}
    assert {row.route for row in OUTSIDE} == {f"{method} {path}" for method, path, _ in PLAIN}


@pytest.fixture
async def world(client: Client, fakes: Fakes) -> World:
    made = World(client, fakes)
    await made.open()
    return made


@pytest.mark.parametrize("prefix", [V1, "/api/v2"])
@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_everybody_meets_every_endpoint(world: World, row: Row, prefix: str) -> None:
    await meet(world, row, prefix)


@pytest.mark.parametrize("row", OUTSIDE, ids=str)
async def test_what_stands_outside_of_the_api_is_for_everybody(world: World, row: Row) -> None:
    await meet(world, row, "")
