-- name: session
-- The session by its id.
SELECT key FROM session WHERE id = :id;

-- name: open_task
-- A task of the session that is not over.
SELECT id, state FROM task INDEXED BY task_of_session WHERE session_key = :key AND finished_at IS NULL LIMIT 1;

-- name: schedule
-- A schedule that speaks in the session.
SELECT id FROM schedule WHERE session_id = :id LIMIT 1;

-- name: tasks
-- The tasks of the session.
SELECT key, id FROM task INDEXED BY task_of_session WHERE session_key = :key;

-- name: texts_of_session
-- What was said in the session.
SELECT content_json FROM message WHERE session_key = :key;

-- name: texts_of_task
-- What a task was given, did and came to.
SELECT payload_json AS text FROM task_input WHERE task_key = :key
UNION ALL SELECT request_json FROM step WHERE task_key = :key AND request_json IS NOT NULL
UNION ALL SELECT evidence_json FROM step WHERE task_key = :key AND evidence_json IS NOT NULL
UNION ALL SELECT result_json FROM step WHERE task_key = :key AND result_json IS NOT NULL
UNION ALL SELECT result_json FROM task WHERE key = :key AND result_json IS NOT NULL
UNION ALL SELECT error FROM task WHERE key = :key AND error IS NOT NULL;

-- name: drop_messages
-- What was said.
DELETE FROM message WHERE session_key = :key;

-- name: drop_task_messages
-- What was said in the course of a task elsewhere.
DELETE FROM message WHERE task_key = :key;

-- name: blank_input
-- What the task was to work on.
UPDATE task_input SET payload_json = '{}' WHERE task_key = :key;

-- name: blank_task
-- What a task came to, and every name a caller chose. States, times and numbers stay: its events explain them.
UPDATE task SET result_json = NULL, error = NULL, progress_json = NULL, cancel_reason = NULL, fingerprint = NULL,
       fingerprint_count = 0, idempotency_key = NULL, request_digest = NULL, concurrency_key = NULL, unique_key = NULL
 WHERE key = :key;

-- name: blank_steps
-- What a task did: which tools and how they ended stays.
UPDATE step SET request_json = NULL, evidence_json = NULL, result_json = NULL, request_hash = '' WHERE task_key = :key;

-- name: blank_events_of_task
-- What the events of a task tell; the chain holds the digests.
UPDATE event INDEXED BY event_task SET payload_json = NULL WHERE task_key = :key AND payload_json IS NOT NULL;

-- name: blank_events_of_session
-- What the events of the session tell.
UPDATE event INDEXED BY event_session SET payload_json = NULL WHERE session_key = :key AND payload_json IS NOT NULL;

-- name: audit_page
-- The decisions behind a cursor, with whose they are.
SELECT id, chain, task_id FROM audit_log WHERE id > :cursor ORDER BY id LIMIT :limit;

-- name: audit_from
-- The first decision at or behind an id.
SELECT id, at FROM audit_log WHERE id >= :id ORDER BY id LIMIT 1;

-- name: began_at
-- When the session began.
SELECT created_at FROM session WHERE key = :key;

-- name: drop_audit
-- One decision.
DELETE FROM audit_log WHERE id = :id;

-- name: bury_session
-- A nameless row stays, because events and tasks refer to it.
UPDATE session SET id = 'purged-' || key, ended_at = coalesce(ended_at, :now), updated_at = :now WHERE key = :key;

-- name: mark
-- The session was purged; a second time counts anew.
INSERT INTO purge (session_key, purged_at) VALUES (:key, :now)
ON CONFLICT (session_key) DO UPDATE SET purged_at = :now, scrubbed_at = NULL;

-- name: unscrubbed
-- Purges after which the file was not rewritten yet.
SELECT count(*) FROM purge WHERE scrubbed_at IS NULL;

-- name: scrubbed
-- The file was rewritten.
UPDATE purge SET scrubbed_at = :now WHERE scrubbed_at IS NULL AND purged_at <= :now;

-- name: is_purged
-- Whether the content of a task is gone.
SELECT 1 FROM purge WHERE session_key = (SELECT session_key FROM task WHERE key = :key);
