-- The sessions of each account: those that go on, and those that ended a little while ago.

CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    held         json NOT NULL,
    ended        json NOT NULL,
    barred       bigint NOT NULL,
    first_expiry timestamptz,
    ended_at     timestamptz,
    version      bigint NOT NULL
);
COMMENT ON TABLE sessions IS 'A row for each account that ever logged in, under the id of the account. Of tokens it holds hashes only; devices and addresses are sealed with the account''s key.';
COMMENT ON COLUMN sessions.ended IS 'Sessions that ended before their time, while access tokens of theirs may still be about.';
COMMENT ON COLUMN sessions.barred IS 'Logins that saw an older version of the account are too late.';
COMMENT ON COLUMN sessions.first_expiry IS 'When the first of those that go on expires; null without one.';
COMMENT ON COLUMN sessions.ended_at IS 'When the last of the ended ones did; null without one.';
CREATE INDEX sessions_by_expiry ON sessions (first_expiry) WHERE first_expiry IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (ended_at, id) WHERE ended_at IS NOT NULL;
