-- Webhooks that could not be verified, the newest of each source: JSON documents, each of a few KB at the most.
CREATE TABLE failure (
    source_id TEXT NOT NULL,
    id        TEXT NOT NULL,
    document  BLOB NOT NULL,
    PRIMARY KEY (source_id, id)
) STRICT;
