-- What is left of erased accounts is removed after a day, without looking at what others got within a month.
CREATE INDEX mails_of_nobody ON mails (sent_at) WHERE account_id IS NULL;
