-- A resource of which an erasure left nothing but its id has no title. It is met no more by whoever looks for others.

DROP INDEX resources_of_owner;
CREATE INDEX resources_of_owner ON resources (owner_id, id) WHERE title <> '';
DROP INDEX resources_deleted;
CREATE INDEX resources_deleted ON resources (deleted_at, id) WHERE deleted_at IS NOT NULL AND title <> '';
DROP INDEX resources_deleted_by_owner;
CREATE INDEX resources_deleted_by_owner ON resources (owner_id, deleted_at, id)
    WHERE deleted_at IS NOT NULL AND title <> '';
-- Those whose journal is to be emptied, too.
CREATE INDEX resources_emptied ON resources (updated_at) WHERE title = '';
