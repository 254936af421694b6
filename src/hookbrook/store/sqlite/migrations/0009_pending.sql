-- What is pending is counted and listed however many have succeeded. Its entries come and go at the index's two ends.
CREATE INDEX delivery_pending ON delivery (id) WHERE state = 'pending';
