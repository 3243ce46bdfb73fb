-- The tables of live metrics: windows of event time, a row for each group, measure and partition of events.

CREATE TABLE metrics (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    version     integer NOT NULL,
    declaration text NOT NULL,
    state       text NOT NULL CHECK (state IN ('building', 'serving', 'retired')),
    since       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, version)
);
CREATE UNIQUE INDEX metrics_serving ON metrics (name) WHERE state = 'serving';
CREATE UNIQUE INDEX metrics_building ON metrics (name) WHERE state = 'building';
COMMENT ON TABLE metrics IS 'Each version of each metric; rows of the tables below belong to a version, so that one can be built while another serves.';
COMMENT ON COLUMN metrics.declaration IS 'As JSON, with what it was when its rows were begun.';

CREATE TABLE metric_watermarks (
    consumer_group text NOT NULL,
    topic_id       uuid NOT NULL,
    partition      integer NOT NULL,
    at             bigint NOT NULL,
    PRIMARY KEY (consumer_group, topic_id, partition)
) WITH (fillfactor = 50);
COMMENT ON COLUMN metric_watermarks.at IS 'The latest event time that the group has seen in the partition, seconds since 1970.';

-- One table for panes shorter than an hour, one for those shorter than a day, one for the others: each divided by time,
-- so that what is no longer kept is dropped and not deleted. The parts are made when they are needed.
CREATE TABLE metric_minutes (
    metric  integer NOT NULL,
    pane    integer NOT NULL,
    start   timestamptz NOT NULL,
    grp     text COLLATE "C" NOT NULL,
    measure text COLLATE "C" NOT NULL,
    feed    text COLLATE "C" NOT NULL,
    n       bigint NOT NULL,
    total   numeric,
    low     numeric,
    high    numeric,
    sketch  bytea,
    PRIMARY KEY (metric, pane, start, grp, measure, feed)
) PARTITION BY RANGE (start);
CREATE TABLE metric_hours (LIKE metric_minutes INCLUDING ALL) PARTITION BY RANGE (start);
CREATE TABLE metric_days (LIKE metric_minutes INCLUDING ALL) PARTITION BY RANGE (start);
COMMENT ON COLUMN metric_minutes.pane IS 'Length of the pane in seconds; -1 is a calendar month.';
COMMENT ON COLUMN metric_minutes.grp IS 'A JSON list with a value for each path of group_by; empty for what is counted of the window itself.';
COMMENT ON COLUMN metric_minutes.feed IS 'Topic and partition of the events: workers never wait for each other, and readers add these up.';
COMMENT ON COLUMN metric_minutes.n IS 'How many values were added; sums are exact, and never rounded.';
