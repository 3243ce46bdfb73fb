-- Mails to the owners of accounts: what is under way with each, and which were sent.

ALTER TABLE accounts
    ADD COLUMN email_verified boolean NOT NULL DEFAULT false,
    ADD COLUMN language text,
    ADD COLUMN mailing json NOT NULL DEFAULT '{}';
COMMENT ON COLUMN accounts.mailing IS 'Tokens that are about (hashes only), and which mails were asked for within a day.';
COMMENT ON COLUMN accounts.language IS 'Of mails to the owner; null is the language of the installation.';

CREATE TABLE mails (
    id         text PRIMARY KEY,
    account_id uuid,
    recipient  text NOT NULL,
    kind       text NOT NULL,
    sent_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mails IS 'Mails that the mail server has taken: none is sent twice, and no address gets too many.';
COMMENT ON COLUMN mails.id IS 'The id of the event that it tells of; its Message-ID is made of it.';
COMMENT ON COLUMN mails.account_id IS 'Whose account it tells of; null once that is erased. The row then stays for a day.';
COMMENT ON COLUMN mails.recipient IS 'HMAC of the address, as in accounts.email_index.';
CREATE INDEX mails_to ON mails (recipient, kind, sent_at);
CREATE INDEX mails_of_account ON mails (account_id, sent_at, id) WHERE account_id IS NOT NULL;
CREATE INDEX mails_by_age ON mails (sent_at);
