-- The API keys of each account: those that are good, and those that ended a little while ago.

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    held         json NOT NULL,
    ended        json NOT NULL,
    barred       bigint NOT NULL,
    first_expiry timestamptz,
    ended_at     timestamptz,
    version      bigint NOT NULL,
    used         jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE api_keys IS 'A row for each account that ever had one, under the id of the account. Of keys it holds hashes only; names are sealed with the account''s key.';
COMMENT ON COLUMN api_keys.ended IS 'Keys that ended before their time, while fronts may still remember them as good.';
COMMENT ON COLUMN api_keys.barred IS 'Keys that are made by an older version of the account are too late.';
COMMENT ON COLUMN api_keys.first_expiry IS 'When the first of those that are good expires; null if none does.';
COMMENT ON COLUMN api_keys.ended_at IS 'When the last of the ended ones did; null without one.';
COMMENT ON COLUMN api_keys.used IS 'When each key was used last, by its id; written by fronts, at most once a minute and key.';
CREATE INDEX api_keys_by_expiry ON api_keys (first_expiry) WHERE first_expiry IS NOT NULL;
CREATE INDEX api_keys_by_end ON api_keys (ended_at, id) WHERE ended_at IS NOT NULL;
