-- A command that is parked can be sent again at any time: what became of its operation stays known as long.
-- And it is known whose words it holds, so that an erasure reaches it.

ALTER TABLE dead_letters ADD COLUMN operation uuid, ADD COLUMN actor uuid, ADD COLUMN subject uuid;
COMMENT ON COLUMN dead_letters.operation IS 'Of a command that can be read; it is not forgotten while this is parked.';
COMMENT ON COLUMN dead_letters.actor IS 'Of a command that can be read: who sent it.';
COMMENT ON COLUMN dead_letters.subject IS 'Of a command that can be read: what it is for.';
CREATE INDEX dead_letters_of_operation ON dead_letters (operation) WHERE operation IS NOT NULL;
CREATE INDEX dead_letters_by_actor ON dead_letters (actor) WHERE actor IS NOT NULL AND value IS NOT NULL;
CREATE INDEX dead_letters_by_subject ON dead_letters (subject) WHERE subject IS NOT NULL AND value IS NOT NULL;

-- Those that there are by now; what stands in them may be anything.
DO $$
DECLARE
    letter record;
BEGIN
    FOR letter IN
        SELECT id, value FROM dead_letters
        WHERE topic ~ '\.commands\.[a-z_]+$' AND octet_length(value) <= 8388608
    LOOP
        BEGIN
            UPDATE dead_letters SET operation = (command ->> 'operation')::uuid, actor = (command ->> 'actor')::uuid,
                subject = (command ->> 'subject')::uuid
            FROM (SELECT convert_from(letter.value, 'UTF8')::json AS command) AS read WHERE id = letter.id;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            NULL;
        END;
    END LOOP;
END $$;
