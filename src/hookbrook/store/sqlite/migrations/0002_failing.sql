-- Endpoints to which nothing has arrived for a while, and since when. Beside their records, because it changes with
-- attempts and not with what people configure.
CREATE TABLE failing (
    endpoint_id TEXT    NOT NULL PRIMARY KEY,
    since       INTEGER NOT NULL -- the first attempt that failed after the last one that did not
) WITHOUT ROWID, STRICT;
