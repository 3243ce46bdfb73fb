"""The Faust app of a group: Faust without its tables, its producer and its web server, on the batch transport."""

from pathlib import Path

import faust
from faust.tables.manager import TableManager

from config import Settings
from streams.consumer import BatchConsumer, BatchTopic, BatchTransport
from streams.groups import Group
from streams.progress import Progress

SESSION_S = 10.0
"""A member that is silent for so long has left its group."""


class NoTables(TableManager):
    """Faust waits a second for tables to be declared before it joins the group; there are none here."""

    async def on_start(self) -> None:
        """Called by Faust."""
        await self._update_channels()
        await self.recovery.start()


class GroupApp(faust.App):
    """A Faust app whose events are batches. The attributes are read by the batch transport."""

    positions: Progress
    read_ahead: bool
    gather_s: float
    batch_bytes = 16 << 20

    class BootStrategy(faust.App.BootStrategy):
        """No producer of Faust's (ours is idempotent and tells what arrived) and no web server."""

        enable_kafka_producer = False
        enable_web = False

    async def on_stop(self) -> None:
        """The batch in hand first; then the group is left, before Faust waits for a handler that may be stuck."""
        consumer = self.batch_consumer
        if consumer is not None:
            await consumer.drain()
        await super().on_stop()
        if consumer is not None:
            await consumer.stop()

    @property
    def batch_consumer(self) -> BatchConsumer | None:
        """The consumer, once there is one."""
        return self._consumer if isinstance(self._consumer, BatchConsumer) else None


def build_app(settings: Settings, group: Group, full_name: str, instance: str, progress: Progress) -> GroupApp:
    """The Faust app of a group, without its agent."""
    app = GroupApp(
        full_name,
        broker=[f"kafka://{server}" for server in settings.kafka_url.split(",")],
        store="memory://",
        datadir=Path(settings.state_dir) / "faust",
        autodiscover=False,
        Topic=BatchTopic,
        TableManager=NoTables,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_group_instance_id=instance,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=30.0,
        broker_commit_interval=2.0,
        broker_max_poll_records=group.max_records,
        consumer_max_fetch_size=4 << 20,
        # A topic that was deleted has no partitions: only a look at the metadata finds the one made in its place.
        consumer_metadata_max_age_ms=5000,
        producer_request_timeout=30.0,
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )
    app.positions = progress
    app.read_ahead = group.read_ahead
    app.gather_s = group.gather_s
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    return app
