-- Events whose data is older than it may be, and which somebody is still owed.
CREATE TABLE late_body (seq INTEGER PRIMARY KEY) STRICT;

-- Up to where the data of events was looked at for its age.
INSERT INTO meta VALUES ('bodies', 0);
