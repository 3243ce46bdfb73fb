-- Kinds with their schemas; lists by everything that is documented; full text.

CREATE TABLE kinds (
    id         uuid PRIMARY KEY,
    kind       text NOT NULL UNIQUE,
    schema     json NOT NULL,
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    change     bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN kinds.schema IS 'What the attributes of resources of this kind must satisfy (JSON Schema, draft 2020-12).';
COMMENT ON COLUMN kinds.change IS 'Grows over all kinds with each change: whoever knows the highest knows whether its copy is good.';
CREATE INDEX kinds_by_change ON kinds (change);
CREATE SEQUENCE kind_changes;
CREATE FUNCTION count_kind_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.change := nextval('kind_changes');
    RETURN NEW;
END $$;
CREATE TRIGGER kind_changed BEFORE INSERT OR UPDATE ON kinds FOR EACH ROW EXECUTE FUNCTION count_kind_change();

-- What a resource is found by, made by the worker (stores/search.py): words, pairs of characters, and a mark for each
-- value that lists are narrowed by. Rows that have none are given theirs by the workers of this version.
ALTER TABLE resources ADD COLUMN search tsvector;
CREATE INDEX resources_unindexed ON resources (id) WHERE search IS NULL;
-- One index for the text and every filter by equality; writes append to its list of 512 kB, which is sorted in when it
-- is full: longer lists are slower to search, and one of 4 MB held up a write for 0.2 s.
CREATE INDEX resources_by_content ON resources USING gin (search, (attributes::jsonb) jsonb_path_ops)
    WITH (fastupdate = on, gin_pending_list_limit = 512) WHERE deleted_at IS NULL;
CREATE INDEX resources_by_status ON resources (status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX resources_by_title ON resources (title, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX resources_public ON resources (created_at, id) WHERE visibility = 'public' AND deleted_at IS NULL;
CREATE INDEX resources_deleted ON resources (deleted_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX resources_deleted_by_owner ON resources (owner_id, deleted_at, id) WHERE deleted_at IS NOT NULL;
