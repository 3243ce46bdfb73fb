"""`topics`: makes the topics that are declared and missing, and checks the others."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config import Settings

HELP = "make the topics that are missing, and check the others"
PATIENCE_S = 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes none."""


def run(options: argparse.Namespace) -> int:
    """Raises what `streams.admin.ensure` raises when a topic differs from its declaration."""
    from cli.connection import settings
    from streams import admin

    known = settings("kafka")
    asyncio.run(_answers(known))
    admin.ensure(known)
    print("as declared")
    return 0


async def _answers(known: Settings) -> None:
    """Raises KafkaConnectionError when the broker says nothing: of one that is frozen the client is patient."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaConnectionError, KafkaError

    client = AIOKafkaClient(bootstrap_servers=known.kafka_url.split(","))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await client.bootstrap()
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaConnectionError(str(error) or f"no answer within {PATIENCE_S:.0f} s") from None
    finally:
        await client.close()
