-- What an event does to its channels (`close`, `delete`), and the key under which neighbours may be shown as one.
ALTER TABLE event ADD COLUMN effect TEXT;
ALTER TABLE event ADD COLUMN merge TEXT;

-- Channels of which more is known than their events say.
CREATE TABLE channel (
    tenant TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    closed INTEGER,                     -- the event that closed it, or NULL
    floor  INTEGER NOT NULL DEFAULT 0,  -- its events up to this one are no longer shown on it
    why    TEXT,                        -- whether that was trimmed or deleted
    swept  INTEGER NOT NULL DEFAULT 0,  -- and up to this one the data has gone, too
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID, STRICT;

CREATE INDEX channel_by_floor ON channel (floor) WHERE floor > 0;
CREATE INDEX channel_unswept ON channel (tenant, name) WHERE swept < floor;
