-- Where the time of an attempt went, in microseconds; NULL: it did not come to that.
ALTER TABLE attempt ADD COLUMN resolve INTEGER;
ALTER TABLE attempt ADD COLUMN connect INTEGER;
ALTER TABLE attempt ADD COLUMN tls INTEGER;
ALTER TABLE attempt ADD COLUMN wait INTEGER;
-- Listing what did not arrive, the newest first. What is pending or has arrived is not here, so that a delivery which
-- arrives at once costs no entry.
CREATE INDEX delivery_stuck ON delivery (state, id) WHERE state IN ('failed', 'held', 'cancelled');
CREATE INDEX delivery_stuck_of ON delivery (endpoint_id, state, id) WHERE state IN ('failed', 'held', 'cancelled');
