-- Parked events of ours know what they are about, as parked commands do, so that an erasure finds them.

COMMENT ON COLUMN dead_letters.subject IS
    'Of a command or an event of ours that can be read: what it is for, or about. Null again once an event was emptied.';
COMMENT ON COLUMN resources.journal_emptied_at IS
    'When what an erasure left of it had left the journal and dead letters, too; null again if more was parked since.';

-- An event without these members of its data; null if it has none of them, or is no event. What stands in it may be
-- anything, and must not hold up those beside it.
CREATE FUNCTION without_members(event bytea, members text[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    read jsonb;
BEGIN
    read := convert_from(event, 'UTF8')::jsonb;
    IF jsonb_typeof(read -> 'data') = 'object' AND (read -> 'data') ?| members THEN
        RETURN convert_to(jsonb_set(read, '{data}', (read -> 'data') - members)::text, 'UTF8');
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END $$;

-- Those that there are by now.
DO $$
DECLARE
    letter record;
BEGIN
    FOR letter IN
        SELECT id, value FROM dead_letters WHERE topic ~ '\.events\.[a-z_]+$' AND octet_length(value) <= 8388608
    LOOP
        BEGIN
            UPDATE dead_letters SET subject = (convert_from(letter.value, 'UTF8')::json ->> 'subject')::uuid
            WHERE id = letter.id;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            NULL;
        END;
    END LOOP;
END $$;

-- They were passed by when the journal lost the contents of these.
UPDATE resources SET journal_emptied_at = NULL
WHERE journal_emptied_at IS NOT NULL
    AND id IN (SELECT subject FROM dead_letters WHERE topic ~ '\.events\.resources$' AND value IS NOT NULL);
