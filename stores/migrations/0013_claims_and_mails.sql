-- Ways to rows that are looked for by something else than the primary key since 0012.

-- Who moves to another address, and who is erased, gives up what the account has claimed.
CREATE INDEX account_claims_of_account ON account_claims (account_id);
