-- name: all
-- The removed ranges of a log behind a cursor, in order.
SELECT first_id, last_id, chain, removed_at FROM removed_range
 WHERE log = :log AND first_id > :cursor ORDER BY first_id LIMIT :limit;

-- name: highest
-- The removed range with the highest ids of a log.
SELECT last_id FROM removed_range WHERE log = :log ORDER BY first_id DESC LIMIT 1;

-- name: before
-- The last range that begins before an id.
SELECT first_id, last_id, chain FROM removed_range WHERE log = :log AND first_id < :id ORDER BY first_id DESC LIMIT 1;

-- name: at
-- The range that begins with an id.
SELECT first_id, last_id, chain FROM removed_range WHERE log = :log AND first_id = :id;

-- name: insert
-- A range of ids is gone.
INSERT INTO removed_range (log, first_id, last_id, chain, removed_at) VALUES (:log, :first_id, :last_id, :chain, :now);

-- name: delete
-- A range has become a part of another one.
DELETE FROM removed_range WHERE log = :log AND first_id = :first_id;

-- name: last_audit
-- The head of the audit log.
SELECT max(id) FROM audit_log;
