-- The log, what it owes, and what people configured.
-- Times are microseconds since the Unix epoch, UTC.

-- One row per event, in commit order. AUTOINCREMENT: a seq is never issued twice, not even after the newest was removed.
CREATE TABLE event (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant       TEXT    NOT NULL,
    channel      TEXT    NOT NULL, -- the home channel
    more         TEXT,             -- JSON array of the other channels, or NULL
    id           TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    source       TEXT,
    time         INTEGER NOT NULL,
    appended     INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    scope        TEXT    NOT NULL, -- '' for the publish door, else the id of the source
    dedupe       TEXT    NOT NULL, -- unique in its tenant and scope
    digest       BLOB    NOT NULL,
    request      BLOB,
    data         BLOB                -- NULL once trimmed; the row then only remembers that the id was seen
) STRICT;

CREATE INDEX event_by_channel ON event (tenant, channel, seq);
-- Idempotency, and where that goes by the id, as for whatever is published, also the way to find an event by its id.
CREATE UNIQUE INDEX event_seen ON event (tenant, scope, dedupe);
CREATE INDEX event_by_id ON event (id) WHERE scope <> '' OR id <> dedupe;

-- The channels of an event other than its home.
CREATE TABLE event_channel (
    tenant  TEXT    NOT NULL,
    channel TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (tenant, channel, seq)
) WITHOUT ROWID, STRICT;

-- Events behind the watermark that somebody is still owed, and whose data therefore stays.
CREATE TABLE pinned (seq INTEGER PRIMARY KEY) STRICT;

-- Each start of the writer opens one; a cursor is valid only within an epoch listed here.
CREATE TABLE epoch (
    number    INTEGER PRIMARY KEY,
    name      TEXT    NOT NULL UNIQUE,
    first_seq INTEGER NOT NULL,
    opened    INTEGER NOT NULL
) STRICT;

CREATE TABLE delivery (
    id          TEXT    NOT NULL PRIMARY KEY,
    tenant      TEXT    NOT NULL,
    seq         INTEGER NOT NULL,
    endpoint_id TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    spared      INTEGER NOT NULL DEFAULT 0, -- attempts made before somebody had it resent: they do not count as retries
    next_at     INTEGER,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    last_status INTEGER,
    last_error  TEXT
) WITHOUT ROWID, STRICT;

CREATE INDEX delivery_due ON delivery (endpoint_id, next_at) WHERE state = 'pending';
CREATE INDEX delivery_by_event ON delivery (seq);
CREATE INDEX delivery_by_endpoint ON delivery (endpoint_id, id);

CREATE TABLE attempt (
    delivery_id      TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    started          INTEGER NOT NULL,
    duration         INTEGER NOT NULL,
    address          TEXT,
    status           INTEGER,
    error            TEXT,
    message          TEXT,
    response_headers TEXT    NOT NULL,
    response_body    BLOB    NOT NULL,
    truncated        INTEGER NOT NULL,
    PRIMARY KEY (delivery_id, id)
) WITHOUT ROWID, STRICT;

-- Sources, endpoints and keys: JSON documents with what they are found by.
CREATE TABLE record (
    kind     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    tenant   TEXT    NOT NULL,
    name     TEXT,             -- unique within the kind: a source's name, a key's hash
    revision INTEGER NOT NULL,
    document TEXT    NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID, STRICT;

CREATE UNIQUE INDEX record_by_name ON record (kind, name) WHERE name IS NOT NULL;

-- Numbers and secrets of the installation.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value ANY  NOT NULL
) WITHOUT ROWID, STRICT;

INSERT INTO meta VALUES ('routing_version', 1), ('oldest', 1), ('trimmed', 0);
