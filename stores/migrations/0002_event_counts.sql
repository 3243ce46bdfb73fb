-- Events counted by hour, source and type: a row for each partition, so that workers never wait for each other.

CREATE TABLE event_counts (
    hour      timestamptz NOT NULL,
    source    text NOT NULL,
    type      text NOT NULL,
    topic     text NOT NULL,
    partition integer NOT NULL,
    count     bigint NOT NULL,
    PRIMARY KEY (hour, source, type, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE event_counts IS 'Exact: added up in the transaction that moves the progress of the events.';
