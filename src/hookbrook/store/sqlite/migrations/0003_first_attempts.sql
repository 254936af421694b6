-- First attempts and retries are read apart, so that a flood of retries which are due stands before no fresh event.
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (endpoint_id, (attempts > spared), next_at) WHERE state = 'pending';
