-- A resource of which an erasure left nothing but its id has no title. Whoever looks for others meets it no more.

-- Beside resources_deleted and resources_deleted_by_owner, which fronts of older versions go by; a later release drops
-- those.
CREATE INDEX resources_in_the_bin ON resources (deleted_at, id) WHERE deleted_at IS NOT NULL AND title <> '';
CREATE INDEX resources_in_the_bin_by_owner ON resources (owner_id, deleted_at, id)
    WHERE deleted_at IS NOT NULL AND title <> '';
ALTER TABLE resources ADD COLUMN journal_emptied_at timestamptz;
COMMENT ON COLUMN resources.journal_emptied_at IS 'When what an erasure left of it had left the journal, too.';
CREATE INDEX resources_to_empty ON resources (id) WHERE title = '' AND journal_emptied_at IS NULL;

-- Dead letters know whose words they hold.
ALTER TABLE dead_letters ADD COLUMN actor uuid, ADD COLUMN subject uuid;
COMMENT ON COLUMN dead_letters.actor IS 'Of a command that can be read: who sent it.';
COMMENT ON COLUMN dead_letters.subject IS 'Of a command that can be read: what it is for.';
CREATE INDEX dead_letters_by_actor ON dead_letters (actor) WHERE actor IS NOT NULL AND value IS NOT NULL;
CREATE INDEX dead_letters_by_subject ON dead_letters (subject) WHERE subject IS NOT NULL AND value IS NOT NULL;

-- Those that there are by now; what stands in them may be anything.
DO $$
DECLARE
    letter record;
BEGIN
    FOR letter IN
        SELECT id, value FROM dead_letters WHERE topic ~ '\.commands\.[a-z_]+$' AND octet_length(value) <= 8388608
    LOOP
        BEGIN
            UPDATE dead_letters SET actor = (command ->> 'actor')::uuid, subject = (command ->> 'subject')::uuid
            FROM (SELECT convert_from(letter.value, 'UTF8')::json AS command) AS read WHERE id = letter.id;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            NULL;
        END;
    END LOOP;
END $$;
