-- Every statement that SQLite is asked, by name. `{rows}` is filled with as many rows of placeholders as a call has.

-- insert_events --
-- Append events whose seq the writer has already chosen.
INSERT INTO event (seq, tenant, channel, more, id, type, source, time, appended, content_type, kind, scope, dedupe,
                   digest, request, data, packed, effect, merge)
VALUES {rows};

-- insert_event_channels --
INSERT INTO event_channel (tenant, channel, seq) VALUES {rows};

-- insert_deliveries --
INSERT INTO delivery (id, tenant, seq, endpoint_id, line, state, attempts, next_at, created, updated, last_error)
VALUES {rows};

-- find_seen --
-- Which of these (tenant, scope, dedupe) the log already has.
-- CROSS JOIN fixes the order: one look-up per row asked for. With IN (VALUES …) SQLite would scan the whole log.
WITH wanted AS (VALUES {rows})
SELECT tenant, scope, dedupe, seq, id, digest, appended
FROM wanted CROSS JOIN event ON tenant = wanted.column1 AND scope = wanted.column2 AND dedupe = wanted.column3;

-- find_channels --
WITH wanted AS (VALUES {rows})
SELECT tenant, name, closed, floor, why
FROM wanted CROSS JOIN channel ON tenant = wanted.column1 AND name = wanted.column2;

-- floors_above --
SELECT name, floor, why FROM channel WHERE floor > 0 AND floor > ? AND {filter} ORDER BY floor DESC;

-- highest_floor --
SELECT floor FROM channel WHERE floor > 0 ORDER BY floor DESC LIMIT 1;

-- any_closed --
SELECT 1 FROM channel WHERE closed IS NOT NULL LIMIT 1;

-- close_channel --
INSERT INTO channel (tenant, name, closed) VALUES (?, ?, ?)
ON CONFLICT (tenant, name) DO UPDATE SET closed = excluded.closed;

-- delete_channel --
INSERT INTO channel (tenant, name, floor, why) VALUES (?, ?, ?, 'deleted')
ON CONFLICT (tenant, name) DO UPDATE SET closed = NULL, floor = excluded.floor, why = excluded.why;

-- trim_channel --
INSERT INTO channel (tenant, name, floor, why) VALUES (?, ?, ?, 'trimmed')
ON CONFLICT (tenant, name) DO UPDATE SET floor = excluded.floor, why = excluded.why WHERE floor < excluded.floor;

-- release_seen --
-- Its id was known for long enough, and begins to be another event's.
UPDATE event SET dedupe = dedupe || char(31) || seq WHERE seq = ?;

-- count_loss --
INSERT INTO meta VALUES ('losses', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1;

-- last_seq --
-- The newest seq ever issued, also when its event is gone.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0);

-- last_appended --
SELECT coalesce((SELECT appended FROM event ORDER BY seq DESC LIMIT 1), 0);

-- first_seq_from --
-- The first row at or after a seq, for the binary search by time.
SELECT seq, appended FROM event WHERE seq >= ? ORDER BY seq LIMIT 1;

-- read_channels --
-- `{seqs}` is one of the two below for each channel, joined by UNION: merged from the indexes in order, and only as far
-- as the limit goes.
SELECT {columns} FROM event WHERE seq IN ({seqs} ORDER BY 1 LIMIT ?) ORDER BY seq;

-- read_channels_back --
SELECT {columns} FROM event WHERE seq IN ({seqs} ORDER BY 1 DESC LIMIT ?) ORDER BY seq DESC;

-- read_channels_back_bare --
SELECT {bare_columns} FROM event WHERE seq IN ({seqs} ORDER BY 1 DESC LIMIT ?) ORDER BY seq DESC;

-- seqs_of_channel --
-- Events whose home the channel is, and those that only name it.
SELECT seq FROM event WHERE tenant = ? AND channel = ? AND seq > ? AND seq < ?
UNION SELECT seq FROM event_channel WHERE tenant = ? AND channel = ? AND seq > ? AND seq < ?;

-- scan --
-- A stretch of the log in order; the filter only spares rows that cannot match.
SELECT {columns} FROM event WHERE seq > ? AND seq <= ? AND ({filter}) ORDER BY seq LIMIT ?;

-- scan_back --
SELECT {columns} FROM event WHERE seq < ? AND seq >= ? AND ({filter}) ORDER BY seq DESC LIMIT ?;

-- scan_back_bare --
SELECT {bare_columns} FROM event WHERE seq < ? AND seq >= ? AND ({filter}) ORDER BY seq DESC LIMIT ?;

-- owed_to_nobody --
NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = event.seq);

-- owed_like_this --
EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = event.seq AND delivery.state IN ({states}));

-- event_published --
SELECT {columns} FROM event WHERE tenant = ? AND scope = '' AND dedupe = ?;

-- event_received --
-- The condition on scope and dedupe is the index's own.
SELECT {columns} FROM event WHERE id = ? AND (scope <> '' OR id <> dedupe) AND tenant = ?;

-- pin_owed --
INSERT OR IGNORE INTO pinned (seq)
SELECT DISTINCT seq FROM delivery WHERE seq >= ? AND seq < ? AND state IN ('pending', 'held');

-- blank_unpinned --
UPDATE event SET data = NULL, packed = NULL, request = NULL
WHERE seq >= ? AND seq < ? AND seq NOT IN (SELECT seq FROM pinned WHERE seq >= ? AND seq < ?);

-- pinned_after --
-- With whether they are still owed.
SELECT seq, EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = pinned.seq AND state IN ('pending', 'held'))
FROM pinned WHERE seq > ? ORDER BY seq LIMIT ?;

-- channels_between --
SELECT seq, tenant, channel, more FROM event WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?;

-- channels_of --
SELECT seq, tenant, channel, more, appended FROM event WHERE seq IN ({rows});

-- unswept --
-- Channels whose events are no longer shown up to a floor, but still kept.
SELECT tenant, name, floor, swept FROM channel WHERE swept < floor LIMIT ?;

-- swept --
UPDATE channel SET swept = ? WHERE tenant = ? AND name = ?;

-- owed_among --
SELECT DISTINCT seq FROM delivery WHERE seq IN ({rows}) AND state IN ('pending', 'held');

-- pin --
INSERT OR IGNORE INTO pinned (seq) SELECT seq FROM event WHERE seq IN ({rows});

-- blanks_between --
SELECT seq, data IS NULL FROM event WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?;

-- forget_floors --
-- Of closed channels; the log as a whole no longer reaches back so far.
UPDATE channel SET floor = 0, swept = 0 WHERE (tenant, name) IN (
    SELECT tenant, name FROM channel WHERE floor > 0 AND floor < ? AND swept >= floor AND closed IS NOT NULL LIMIT ?
);

-- forget_channels --
DELETE FROM channel WHERE (tenant, name) IN (
    SELECT tenant, name FROM channel WHERE floor > 0 AND floor < ? AND swept >= floor AND closed IS NULL LIMIT ?
);

-- unpin --
DELETE FROM pinned WHERE seq IN ({rows});

-- forgettable --
-- Rows without data, which only remember that an id was seen.
SELECT seq FROM event WHERE seq > ? AND seq < ? AND data IS NULL ORDER BY seq LIMIT ?;

-- appended_before --
-- When the last event before a seq was appended; between them rows may have been removed.
SELECT appended FROM event WHERE seq < ? ORDER BY seq DESC LIMIT 1;

-- blank_events --
UPDATE event SET data = NULL, packed = NULL, request = NULL WHERE seq IN ({rows});

-- delete_attempts --
DELETE FROM attempt WHERE delivery_id IN (SELECT id FROM delivery WHERE seq IN ({rows}));

-- delete_deliveries --
DELETE FROM delivery WHERE seq IN ({rows});

-- delete_event_channels --
DELETE FROM event_channel WHERE (tenant, channel, seq) IN (
    SELECT event.tenant, other.value, event.seq FROM event, json_each(event.more) AS other WHERE event.seq IN ({rows})
);

-- delete_events --
DELETE FROM event WHERE seq IN ({rows});

-- due_deliveries --
-- First attempts (0) or retries (1), written as the index is. All in one row: each row is a hand-over of the
-- interpreter's lock, and most of them may be passed over.
SELECT json_group_array(json_array(id, attempts, seq, line)) FROM (
    SELECT id, attempts - spared AS attempts, seq, line FROM delivery
    WHERE endpoint_id = ? AND (attempts > spared) = ? AND state = 'pending' AND next_at <= ? ORDER BY next_at LIMIT ?
);

-- events_by_seq --
SELECT {columns} FROM event WHERE seq IN ({rows});

-- next_due --
-- Steps from each endpoint to the next by the index, so that a backlog of millions costs no more than one delivery.
WITH RECURSIVE each (endpoint_id) AS (
    SELECT min(endpoint_id) FROM delivery WHERE state = 'pending' AND next_at IS NOT NULL
    UNION ALL
    SELECT (
        SELECT min(endpoint_id) FROM delivery
        WHERE state = 'pending' AND next_at IS NOT NULL AND endpoint_id > each.endpoint_id
    )
    FROM each WHERE endpoint_id IS NOT NULL
)
SELECT endpoint_id, (
    SELECT min(next_at) FROM (
        SELECT min(next_at) AS next_at FROM delivery
        WHERE endpoint_id = each.endpoint_id AND (attempts > spared) = 0 AND state = 'pending' AND next_at IS NOT NULL
        UNION ALL
        SELECT min(next_at) FROM delivery
        WHERE endpoint_id = each.endpoint_id AND (attempts > spared) = 1 AND state = 'pending' AND next_at IS NOT NULL
    )
) FROM each WHERE endpoint_id IS NOT NULL;

-- next_due_of --
-- Both ends of the index, instead of all that lies between them.
SELECT min(next_at) FROM (
    SELECT min(next_at) AS next_at FROM delivery
    WHERE endpoint_id = ?1 AND (attempts > spared) = 0 AND state = 'pending' AND next_at IS NOT NULL
    UNION ALL
    SELECT min(next_at) FROM delivery
    WHERE endpoint_id = ?1 AND (attempts > spared) = 1 AND state = 'pending' AND next_at IS NOT NULL
);

-- insert_attempts --
-- Except those of deliveries that were trimmed meanwhile, which nobody would ever remove; and without what an event said
-- that was erased meanwhile.
WITH made AS (VALUES {rows})
INSERT INTO attempt (delivery_id, id, started, duration, resolve, connect, tls, wait, address, status, error, message,
                     response_headers, response_body, truncated)
SELECT made.column1, made.column2, made.column3, made.column4, made.column5, made.column6, made.column7, made.column8,
       made.column9, made.column10, made.column11, iif(event.kind = 'erased', NULL, made.column12),
       iif(event.kind = 'erased', '[]', made.column13), iif(event.kind = 'erased', x'', made.column14), made.column15
FROM made CROSS JOIN delivery ON delivery.id = made.column1 CROSS JOIN event ON event.seq = delivery.seq;

-- move_deliveries --
-- The result of attempts, and the lines that it concerns. A delivery that was cancelled or held meanwhile keeps its
-- state; only one that was held and has arrived all the same is done.
UPDATE delivery
SET attempts = attempts + 1, last_status = outcome.column4, last_error = outcome.column5, updated = outcome.column6,
    state = CASE WHEN state = 'pending' OR (state = 'held' AND outcome.column2 = 'succeeded') THEN outcome.column2
                 ELSE state END,
    next_at = CASE WHEN state = 'pending' THEN outcome.column3 ELSE next_at END
FROM (VALUES {rows}) AS outcome WHERE delivery.id = outcome.column1 RETURNING delivery.endpoint_id, delivery.line;

-- endpoints_failing --
-- Except those that were deleted meanwhile, which nobody would ever forget.
WITH changed AS (VALUES {rows})
INSERT INTO failing (endpoint_id, since)
SELECT * FROM changed
WHERE EXISTS (SELECT 1 FROM record WHERE record.kind = 'endpoint' AND record.id = changed.column1)
ON CONFLICT (endpoint_id) DO UPDATE SET since = excluded.since;

-- endpoints_well --
DELETE FROM failing WHERE endpoint_id IN ({rows});

-- failing_since --
SELECT endpoint_id, since FROM failing;

-- failing_since_of --
SELECT endpoint_id, since FROM failing WHERE endpoint_id IN (SELECT value FROM json_each(?));

-- endpoint_document --
SELECT document FROM record WHERE kind = 'endpoint' AND id = ?;

-- is_blank --
-- And the home channel.
SELECT data IS NULL OR kind = 'erased', channel FROM event WHERE seq = ?;

-- change_delivery --
UPDATE delivery SET state = ?, next_at = ?, updated = ?, spared = iif(?, attempts, spared), line = ? WHERE id = ?;

-- resend_deliveries --
-- What a job sends again. It begins behind the first attempt, and so is a retry to everybody. What could never be sent
-- stays as it is: its endpoint is deleted, or its data gone.
UPDATE delivery
SET state = iif(json_extract(record.document, '$.enabled'), ?, ?),
    next_at = iif(json_extract(record.document, '$.enabled'), ?, NULL), updated = ?, spared = attempts - 1,
    line = CASE json_extract(record.document, '$.ordering') WHEN 'channel' THEN event.channel WHEN 'all' THEN '' END
FROM record, event
WHERE {which} AND state IN (SELECT value FROM json_each(?))
  AND record.kind = 'endpoint' AND record.id = delivery.endpoint_id
  AND event.seq = delivery.seq AND event.data IS NOT NULL AND event.kind <> 'erased'
RETURNING endpoint_id, line;

-- owe_deliveries --
-- What a job owes anew, where nothing is owed yet: likewise behind the first attempt.
WITH made AS (VALUES {rows})
INSERT INTO delivery (id, tenant, seq, endpoint_id, state, attempts, spared, next_at, created, updated, line)
SELECT made.column1, event.tenant, event.seq, record.id, iif(json_extract(record.document, '$.enabled'), made.column4,
       made.column5), 0, -1, iif(json_extract(record.document, '$.enabled'), made.column6, NULL), made.column6,
       made.column6,
       CASE json_extract(record.document, '$.ordering') WHEN 'channel' THEN event.channel WHEN 'all' THEN '' END
FROM made
JOIN event ON event.seq = made.column2 AND event.data IS NOT NULL AND event.kind <> 'erased'
JOIN record ON record.kind = 'endpoint' AND record.id = made.column3 AND record.tenant = event.tenant
WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = event.seq AND delivery.endpoint_id = record.id)
RETURNING endpoint_id, line;

-- change_owed --
UPDATE delivery SET state = ?1, next_at = ?2, updated = ?3 WHERE id IN ({which});

-- due_of_endpoint --
SELECT id FROM delivery WHERE endpoint_id = ?4 AND state = 'pending' AND next_at IS NOT NULL LIMIT ?5;

-- waiting_of_endpoint --
-- What is pending behind another of its line.
SELECT id FROM delivery WHERE endpoint_id = ?4 AND state = 'pending' AND line IS NOT NULL LIMIT ?5;

-- held_of_endpoint --
-- The second condition is the index's own.
SELECT id FROM delivery INDEXED BY delivery_stuck_of
WHERE endpoint_id = ?4 AND state = 'held' AND state IN ('failed', 'held', 'cancelled') LIMIT ?5;

-- next_unsettled --
-- The one behind this one, or the first if that was the last.
SELECT endpoint_id, happening FROM unsettled ORDER BY endpoint_id <= ?, endpoint_id LIMIT 1;

-- unsettled_of --
SELECT happening FROM unsettled WHERE endpoint_id = ?;

-- note_unsettled --
INSERT INTO unsettled (endpoint_id, happening) VALUES (?, ?)
ON CONFLICT (endpoint_id) DO UPDATE SET happening = excluded.happening;

-- forget_unsettled --
DELETE FROM unsettled WHERE endpoint_id = ?;

-- line_of --
SELECT line FROM delivery WHERE id = ?;

-- waits_for --
-- The first in the line of a delivery that is pending behind it.
SELECT (
    SELECT id FROM delivery AS earlier
    WHERE earlier.endpoint_id = later.endpoint_id AND earlier.line = later.line AND earlier.state = 'pending'
    ORDER BY seq, id LIMIT 1
) FROM delivery AS later WHERE later.id = ? AND later.state = 'pending' AND later.next_at IS NULL;

-- line_up --
-- Of each of these (endpoint, line, now), let the first that is pending be due, now unless its time is known already.
UPDATE delivery SET next_at = first.now
FROM (
    SELECT column3 AS now, (
        SELECT id FROM delivery WHERE endpoint_id = column1 AND line = column2 AND state = 'pending'
        ORDER BY seq, id LIMIT 1
    ) AS id
    FROM (VALUES {rows})
) AS first WHERE delivery.id = first.id AND delivery.next_at IS NULL;

-- step_back --
-- What has a time although something stands before it in its line: that was sent again by somebody.
UPDATE delivery SET next_at = NULL
WHERE id IN (
    SELECT later.id FROM (VALUES {rows}) AS touched CROSS JOIN delivery AS later
    ON later.endpoint_id = touched.column1 AND later.line = touched.column2
    AND later.state = 'pending' AND later.line IS NOT NULL AND later.next_at IS NOT NULL
    WHERE later.id <> (
        SELECT id FROM delivery AS earlier
        WHERE earlier.endpoint_id = later.endpoint_id AND earlier.line = later.line AND earlier.state = 'pending'
        ORDER BY seq, id LIMIT 1
    )
);

-- line_up_endpoint --
-- As the two above, for all lines of one endpoint. A bare column beside min() is that of the row with the minimum.
UPDATE delivery SET next_at = iif(next_at IS NULL, ?2, NULL)
WHERE endpoint_id = ?1 AND state = 'pending' AND line IS NOT NULL AND (next_at IS NULL) = (id IN (
    SELECT id FROM (
        SELECT id, min(seq) FROM delivery
        WHERE endpoint_id = ?1 AND state = 'pending' AND line IS NOT NULL GROUP BY line
    )
));

-- change_lines --
-- What an endpoint is owed has to wait by another rule from now on. Those that wait for none any more are due.
UPDATE delivery
SET line = CASE ?2 WHEN 'channel' THEN (SELECT channel FROM event WHERE event.seq = delivery.seq) WHEN 'all' THEN '' END,
    next_at = iif(state = 'pending', coalesce(next_at, ?3), NULL)
WHERE endpoint_id = ?1 AND state IN ('pending', 'held');

-- count_deliveries --
-- Each part from an index that holds nothing else.
SELECT state, count(*) FROM delivery INDEXED BY delivery_stuck
WHERE state IN ('failed', 'held', 'cancelled') GROUP BY state
UNION ALL SELECT 'pending', count(*) FROM delivery INDEXED BY delivery_pending WHERE state = 'pending';

-- cancel_owed --
UPDATE delivery SET state = ?, next_at = NULL, updated = ?, last_error = ?
WHERE seq = ? AND state IN ('pending', 'held') RETURNING id, endpoint_id, line;

-- erase_events --
-- The row stays, and shows that something stood there.
UPDATE event SET kind = 'erased', data = x'', packed = NULL, request = NULL WHERE seq IN ({rows}) AND data IS NOT NULL;

-- erase_answers --
-- What receivers answered may repeat what they were sent.
UPDATE attempt SET response_headers = '[]', response_body = x'', message = NULL
WHERE delivery_id IN (SELECT id FROM delivery WHERE seq IN ({rows}));

-- forget_digest --
UPDATE event SET digest = x'' WHERE seq = ?;

-- note_late_bodies --
INSERT OR IGNORE INTO late_body
SELECT DISTINCT seq FROM delivery WHERE seq > ? AND seq <= ? AND state IN ('pending', 'held');

-- bodies_between --
SELECT seq FROM event
WHERE seq > ? AND seq <= ? AND data IS NOT NULL AND kind <> 'erased'
  AND NOT EXISTS (SELECT 1 FROM late_body WHERE late_body.seq = event.seq);

-- late_bodies_after --
-- With whether they are still owed.
SELECT seq, EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = late_body.seq AND state IN ('pending', 'held'))
FROM late_body WHERE seq > ? ORDER BY seq LIMIT ?;

-- forget_bodies --
DELETE FROM late_body WHERE seq IN ({rows});

-- events_of_tenant --
SELECT seq, tenant, channel, more FROM event WHERE tenant = ? AND seq <= ? LIMIT ?;

-- mark_deleted --
INSERT INTO channel (tenant, name, floor, why, swept)
SELECT column1, column2, column3, 'deleted', column3 FROM (VALUES {rows}) WHERE TRUE
ON CONFLICT (tenant, name) DO UPDATE
SET closed = NULL, floor = excluded.floor, why = excluded.why, swept = excluded.swept WHERE floor <= excluded.floor;

-- delete_records_of_tenant --
-- Except the job that does it.
DELETE FROM record WHERE tenant = ? AND id <> ? AND kind = 'job';

-- find_deliveries --
SELECT d.id, d.tenant, d.seq, e.id, e.type, e.channel, e.more, d.endpoint_id, d.state, d.attempts, d.next_at, d.created,
       d.updated, d.last_status, d.last_error
FROM delivery AS d {indexed} JOIN event AS e ON e.seq = d.seq WHERE {filter} ORDER BY d.id {order} LIMIT ?;

-- deliveries_of_event --
SELECT d.id, d.tenant, d.seq, e.id, e.type, e.channel, e.more, d.endpoint_id, d.state, d.attempts, d.next_at, d.created,
       d.updated, d.last_status, d.last_error
FROM delivery AS d JOIN event AS e ON e.seq = d.seq
WHERE d.seq = ? AND d.endpoint_id > ? ORDER BY d.endpoint_id LIMIT ?;

-- seqs_of_event --
-- Lets SQLite begin with the event: by its id, or by its dedupe in one tenant after the other. Tenants are few, and
-- stepping from each to the next by the index spares a scan of the log.
WITH RECURSIVE each (tenant) AS (
    SELECT min(tenant) FROM event
    UNION ALL
    SELECT (SELECT min(event.tenant) FROM event WHERE event.tenant > each.tenant) FROM each WHERE tenant IS NOT NULL
)
SELECT seq FROM event WHERE id = ? AND (scope <> '' OR id <> dedupe)
UNION ALL
SELECT seq FROM each CROSS JOIN event ON event.tenant = each.tenant AND scope = '' AND dedupe = ?;

-- attempts_of --
SELECT id, delivery_id, started, duration, resolve, connect, tls, wait, address, status, error, message,
       response_headers, response_body, truncated
FROM attempt WHERE delivery_id = ? ORDER BY id;

-- insert_record --
INSERT INTO record (kind, id, tenant, name, revision, document) VALUES (?, ?, ?, ?, ?, ?);

-- update_record --
UPDATE record SET tenant = ?, name = ?, revision = ?, document = ? WHERE kind = ? AND id = ? AND revision = ?;

-- delete_record --
DELETE FROM record WHERE kind = ? AND id = ? RETURNING document;

-- get_record --
SELECT document FROM record WHERE kind = ? AND id = ?;

-- list_records --
SELECT document FROM record WHERE kind = ? AND id > ? AND tenant = coalesce(?, tenant) ORDER BY id LIMIT ?;

-- list_routes --
SELECT document FROM record WHERE kind = 'endpoint' ORDER BY id;

-- get_meta --
SELECT value FROM meta WHERE name = ?;

-- put_meta --
INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- put_meta_once --
INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO NOTHING;

-- bump_routing_version --
UPDATE meta SET value = value + 1 WHERE name = 'routing_version' RETURNING value;

-- note_reroute --
INSERT INTO rerouted (version, endpoint_id) VALUES (?, ?);

-- forget_reroutes --
DELETE FROM rerouted WHERE version <= ?;

-- rerouted --
-- What changed after a version, each endpoint once, with how many changes it had; one that was deleted has no document.
SELECT rerouted.endpoint_id, record.document, count(*)
FROM rerouted LEFT JOIN record ON record.kind = 'endpoint' AND record.id = rerouted.endpoint_id
WHERE rerouted.version > ? GROUP BY rerouted.endpoint_id;

-- open_epoch --
INSERT INTO epoch (name, first_seq, opened) VALUES (?, ?, ?);

-- epochs --
SELECT name, first_seq FROM epoch ORDER BY number;

-- insert_failure --
-- Only while its source is there.
INSERT INTO failure (source_id, id, document)
SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM record WHERE kind = 'source' AND id = ?)
ON CONFLICT DO NOTHING;

-- trim_failures --
-- All but the newest so many of a source.
DELETE FROM failure
WHERE source_id = ? AND id <= (SELECT id FROM failure WHERE source_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?);

-- list_failures --
SELECT document FROM failure WHERE source_id = ? AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?;

-- delete_failures --
DELETE FROM failure WHERE source_id = ?;
