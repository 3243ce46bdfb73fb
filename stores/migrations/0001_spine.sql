-- Where every group of consumers stands, what happened, what was asked, and the first two nouns.

CREATE TABLE topic_lives (
    topic      text NOT NULL,
    topic_id   uuid NOT NULL,
    life       integer NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, topic_id),
    UNIQUE (topic, life)
);
COMMENT ON TABLE topic_lives IS 'A topic that was deleted and created again has another id: a new life, counted up.';

CREATE TABLE progress (
    consumer_group   text NOT NULL,
    topic_id         uuid NOT NULL,
    partition        integer NOT NULL,
    topic            text NOT NULL,
    next_offset      bigint NOT NULL,
    published_offset bigint,
    sequence         text COLLATE "C" NOT NULL DEFAULT '',
    stopped          text,
    PRIMARY KEY (consumer_group, topic_id, partition)
) WITH (fillfactor = 50);
COMMENT ON COLUMN progress.next_offset IS 'The truth of where the group stands; moved by compare-and-set in the transaction of the work.';
COMMENT ON COLUMN progress.published_offset IS 'Everything of the partition below it was published and acknowledged.';
COMMENT ON COLUMN progress.sequence IS 'The highest event sequence applied, for readers of our own events.';
COMMENT ON COLUMN progress.stopped IS 'Why the partition is not read until an operator says so; null while it is.';

CREATE TABLE journal (
    noun           text NOT NULL,
    life           integer NOT NULL,
    partition      integer NOT NULL,
    command_offset bigint NOT NULL,
    index          integer NOT NULL,
    aggregate_id   uuid NOT NULL,
    version        bigint NOT NULL,
    event          json NOT NULL,
    PRIMARY KEY (noun, partition, life, command_offset, index)
);
COMMENT ON TABLE journal IS 'Every event, to the letter as it is published.';
CREATE INDEX journal_of_aggregate ON journal (aggregate_id, version);

CREATE TABLE operations (
    operation    uuid PRIMARY KEY,
    noun         text NOT NULL,
    aggregate_id uuid NOT NULL,
    actor        uuid,
    fingerprint  text NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN ('succeeded', 'refused', 'failed')),
    version      bigint NOT NULL,
    answer       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN operations.answer IS 'The finished object as JSON, or the refusal.';
CREATE INDEX operations_by_age ON operations USING brin (created_at);

CREATE TABLE dead_letters (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic          text NOT NULL,
    topic_id       uuid NOT NULL,
    partition      integer NOT NULL,
    "offset"       bigint NOT NULL,
    key            bytea,
    value          bytea,
    headers        jsonb NOT NULL,
    produced_at    timestamptz,
    code           text NOT NULL,
    error          text NOT NULL,
    handler        text NOT NULL,
    attempts       integer NOT NULL,
    state          text NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'requested', 'replayed', 'dropped')),
    parked_at      timestamptz NOT NULL DEFAULT now(),
    settled_at     timestamptz,
    UNIQUE (consumer_group, topic_id, partition, "offset")
);
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE state IN ('parked', 'requested');

CREATE TABLE resources (
    id         uuid PRIMARY KEY,
    kind       text NOT NULL,
    title      text NOT NULL,
    body       text NOT NULL,
    tags       jsonb NOT NULL,
    attributes jsonb NOT NULL,
    visibility text NOT NULL,
    status     text NOT NULL,
    owner_id   uuid NOT NULL,
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX resources_by_creation ON resources (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX resources_by_change ON resources (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX resources_by_owner ON resources (owner_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX resources_by_kind ON resources (kind, created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE accounts (
    id            uuid PRIMARY KEY,
    email_index   text NOT NULL UNIQUE,
    email_sealed  text NOT NULL,
    name_sealed   text NOT NULL,
    phone_sealed  text,
    password_sealed text NOT NULL,
    role          text NOT NULL,
    status        text NOT NULL,
    version       bigint NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);

CREATE TABLE account_claims (
    email_index text PRIMARY KEY,
    account_id  uuid NOT NULL
);
COMMENT ON TABLE account_claims IS 'Who has an address: claimed before the decision, so that the loser is refused and no batch is aborted.';

CREATE TABLE account_keys (
    account_id uuid PRIMARY KEY,
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE account_keys IS 'The key of an account''s personal fields, wrapped by the installation''s key. Erasing an account deletes the row.';

CREATE FUNCTION abort_when(broken boolean, reason text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF broken THEN
        RAISE EXCEPTION '%', reason USING ERRCODE = 'YE001';
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION abort_when IS 'Lets one statement of many parts roll itself back when its parts disagree.';
