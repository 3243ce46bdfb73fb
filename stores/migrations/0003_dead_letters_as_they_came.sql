-- A dead letter gives back its record to the letter, whatever stands in its headers and its time.

-- The name of a header may hold a NUL, which jsonb refuses and json keeps.
ALTER TABLE dead_letters ALTER COLUMN headers TYPE json USING headers::json;
ALTER TABLE dead_letters ADD COLUMN timestamp_ms bigint;
COMMENT ON COLUMN dead_letters.headers IS 'Pairs of a name and its bytes in hex, null for a header without a value.';
COMMENT ON COLUMN dead_letters.timestamp_ms IS 'The record''s own time as Kafka has it: any number, not always a date.';
COMMENT ON COLUMN dead_letters.produced_at IS 'The time in rows of older versions; timestamp_ms since.';
