-- Endpoints of which more deliveries are to be held, released or cancelled, because they were disabled, enabled or
-- deleted while they were owed many.
CREATE TABLE unsettled (
    endpoint_id TEXT NOT NULL PRIMARY KEY,
    happening   TEXT NOT NULL
) WITHOUT ROWID, STRICT;
