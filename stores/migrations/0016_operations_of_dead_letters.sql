-- A command that is parked can be sent again at any time: what became of its operation stays known as long.

ALTER TABLE dead_letters ADD COLUMN operation uuid;
COMMENT ON COLUMN dead_letters.operation IS 'Of a command that can be read; it is not forgotten while this is parked.';
CREATE INDEX dead_letters_of_operation ON dead_letters (operation) WHERE operation IS NOT NULL;

-- Those that are parked by now; what stands in them may be anything.
DO $$
DECLARE
    letter record;
BEGIN
    FOR letter IN
        SELECT id, value FROM dead_letters
        WHERE state = 'parked' AND topic ~ '\.commands\.[a-z_]+$' AND octet_length(value) <= 8388608
    LOOP
        BEGIN
            UPDATE dead_letters SET operation = (convert_from(letter.value, 'UTF8')::json ->> 'operation')::uuid
            WHERE id = letter.id;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            NULL;
        END;
    END LOOP;
END $$;
