-- jsonb keeps values, json keeps what was written: the order of members, 1e22, -0.0. The table is written anew, once;
-- writes wait for it. What an older version writes as jsonb is taken as json.

ALTER TABLE resources
    ALTER COLUMN tags TYPE json USING tags::json,
    ALTER COLUMN attributes TYPE json USING attributes::json;
