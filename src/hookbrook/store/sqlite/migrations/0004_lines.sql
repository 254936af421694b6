-- Deliveries that come one after the other: those of one endpoint and one line. Only the first that is pending has a
-- next_at; what waits behind it is in no index that is asked for what is due, however long the line.
ALTER TABLE delivery ADD COLUMN line TEXT; -- '' or the home channel; NULL: it waits for none

DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (endpoint_id, (attempts > spared), next_at)
WHERE state = 'pending' AND next_at IS NOT NULL;
CREATE INDEX delivery_in_line ON delivery (endpoint_id, line, seq) WHERE state = 'pending' AND line IS NOT NULL;
CREATE INDEX delivery_first ON delivery (endpoint_id, line)
WHERE state = 'pending' AND line IS NOT NULL AND next_at IS NOT NULL;
