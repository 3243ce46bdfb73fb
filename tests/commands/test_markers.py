"""What Redis knows of an operation, when its answers get lost: the client asks once more, and must not meet itself."""

from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio.connection
import redis.exceptions

from streams.markers import DONE, LOST, Attempt
from streams.publish import Conflict, Pending
from tests.commands.conftest import Path

pytestmark = pytest.mark.asyncio(loop_scope="session")

Lose = Callable[[Callable[[Any], bool]], list[Any]]


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Lose:
    """The next answer of Redis that is so gets lost with its connection, when it has done what it was told."""

    def next_one(is_it: Callable[[Any], bool]) -> list[Any]:
        read = redis.asyncio.connection.AbstractConnection.read_response
        lost: list[Any] = []

        async def read_response(self: Any, *arguments: Any, **options: Any) -> Any:
            answer = await read(self, *arguments, **options)
            if not lost and is_it(answer):
                lost.append(answer)
                await self.disconnect(nowait=True)
                raise redis.exceptions.ConnectionError("the answer got lost")
            return answer

        monkeypatch.setattr(redis.asyncio.connection.AbstractConnection, "read_response", read_response)
        return lost

    return next_one


async def test_a_first_try_is_no_conflict_with_itself(path: Path, lose: Lose) -> None:
    order = path.order(keyed=True)
    lost = lose(lambda answer: answer is None)
    assert await path.commands.submit(order, wait=0) == Pending(order.operation)
    assert lost == [None]
    with pytest.raises(Conflict):  # as before, of another
        await path.commands.submit(order, wait=0)


@pytest.mark.parametrize("state", [DONE, LOST])
async def test_a_change_whose_answer_got_lost_is_known_to_be_made(path: Path, lose: Lose, state: str) -> None:
    markers, order = path.commands._markers, path.order(keyed=True)
    attempt = Attempt(order.operation, order.actor.id, order.fingerprint)
    assert await markers.begin(attempt) is None
    lost = lose(lambda answer: answer == 1)
    await markers.run(attempt)
    assert lost == [1]
    await (markers.finish if state is DONE else markers.lose)(attempt)
    found = await markers.get(order.operation)
    assert found is not None
    assert found.state == state
