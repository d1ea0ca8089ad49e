-- name: last
-- The head of the log: its highest id and the chain value there.
SELECT id, chain FROM event ORDER BY id DESC LIMIT 1;

-- name: insert
-- Append one event.
INSERT INTO event (id, type, task_key, session_key, state_from, state_to, token, created_at, digest, chain, payload_json)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: after
-- Events behind a cursor, oldest first, whatever session or task they belong to.
SELECT e.id, e.type, t.id AS task_id, s.id AS session_id, e.state_from, e.state_to, e.token, e.payload_json, e.created_at
  FROM event e
  LEFT JOIN task t ON t.key = e.task_key
  LEFT JOIN session s ON s.key = e.session_key
 WHERE e.id > :cursor ORDER BY e.id LIMIT :limit;

-- name: of_session
-- Events of one session behind a cursor, oldest first.
SELECT e.id, e.type, t.id AS task_id, s.id AS session_id, e.state_from, e.state_to, e.token, e.payload_json, e.created_at
  FROM event e INDEXED BY event_session
  LEFT JOIN task t ON t.key = e.task_key
  LEFT JOIN session s ON s.key = e.session_key
 WHERE e.session_key = (SELECT key FROM session WHERE id = :session_id) AND e.id > :cursor
 ORDER BY e.id LIMIT :limit;

-- name: of_task
-- Events of one task behind a cursor, oldest first.
SELECT e.id, e.type, t.id AS task_id, s.id AS session_id, e.state_from, e.state_to, e.token, e.payload_json, e.created_at
  FROM event e INDEXED BY event_task
  LEFT JOIN task t ON t.key = e.task_key
  LEFT JOIN session s ON s.key = e.session_key
 WHERE e.task_key = (SELECT key FROM task WHERE id = :task_id) AND e.id > :cursor
 ORDER BY e.id LIMIT :limit;

-- name: oldest
-- The lowest id that is kept.
SELECT id FROM event ORDER BY id LIMIT 1;
