-- Which endpoint each of the last routing versions changed, so that who holds the routes need not read all of them anew.
CREATE TABLE rerouted (
    version     INTEGER PRIMARY KEY,
    endpoint_id TEXT NOT NULL
) STRICT;
