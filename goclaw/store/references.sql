-- name: steps
-- What steps say, from the newest down.
SELECT id AS key, request_json, evidence_json, result_json FROM step WHERE id < :below ORDER BY id DESC LIMIT :limit;

-- name: messages
-- What messages say, from the newest down.
SELECT id AS key, content_json FROM message WHERE id < :below ORDER BY id DESC LIMIT :limit;

-- name: inputs
-- What tasks were given, from the newest down.
SELECT task_key AS key, payload_json FROM task_input WHERE task_key < :below ORDER BY task_key DESC LIMIT :limit;

-- name: results
-- What tasks came to, from the newest down.
SELECT key, result_json, progress_json FROM task WHERE key < :below ORDER BY key DESC LIMIT :limit;

-- name: parts
-- The prompt parts behind one of them.
SELECT hash, body FROM prompt_part WHERE hash > :after ORDER BY hash LIMIT :limit;

-- name: turn_runs
-- Whether somebody is in a turn: it may have pinned a part that no step names yet.
SELECT 1 FROM task WHERE lease_token IS NOT NULL AND kind = 'chat' LIMIT 1;

-- name: newest_step
-- The highest id of a step.
SELECT max(id) FROM step;

-- name: drop_part
-- A part of a prompt that nothing refers to.
DELETE FROM prompt_part WHERE hash = :hash;
