-- The second factor of each account that ever began one.

CREATE TABLE second_factors (
    id             uuid PRIMARY KEY,
    secret_sealed  text,
    pending_sealed text,
    pending_until  timestamptz,
    enabled_at     timestamptz,
    last_step      bigint NOT NULL,
    recovery       json NOT NULL,
    version        bigint NOT NULL
);
COMMENT ON TABLE second_factors IS 'A row for each account that ever began a second factor, under the id of the account.';
COMMENT ON COLUMN second_factors.secret_sealed IS 'What codes are made of, sealed with the account''s key; null while it is off.';
COMMENT ON COLUMN second_factors.pending_sealed IS 'A secret that waits for its first code, sealed likewise.';
COMMENT ON COLUMN second_factors.last_step IS 'The step of the code that was used last: Unix time by 30 s. It and those before are good for nothing.';
COMMENT ON COLUMN second_factors.recovery IS 'SHA-256 of the recovery codes that are left.';
