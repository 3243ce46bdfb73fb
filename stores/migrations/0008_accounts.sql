-- Accounts are listed, changed and erased; and everything of one person is found.

-- An erased account has no address: its row is only what others' rows still name.
ALTER TABLE accounts ALTER COLUMN email_index DROP NOT NULL;
COMMENT ON COLUMN accounts.email_index IS 'HMAC of the address; null once the account is erased.';
COMMENT ON COLUMN accounts.status IS 'active, disabled, or erased: then nothing personal is left in the row.';

CREATE INDEX accounts_by_creation ON accounts (created_at, id) WHERE status <> 'erased';
CREATE INDEX accounts_by_role ON accounts (role, created_at, id) WHERE status <> 'erased';
CREATE INDEX accounts_by_status ON accounts (status, created_at, id) WHERE status <> 'erased';
CREATE INDEX accounts_erased ON accounts (updated_at) WHERE status = 'erased';

-- What somebody owns, the deleted ones too: an export has them all.
CREATE INDEX resources_of_owner ON resources (owner_id, id);
