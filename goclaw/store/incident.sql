-- name: task
-- The task that is asked about.
SELECT key, created_at, finished_at FROM task WHERE id = :id;

-- name: children
-- The tasks a task made.
SELECT key FROM task WHERE parent_key = :key ORDER BY key LIMIT :limit;

-- name: of_session
-- The newest tasks of a session.
SELECT t.key, t.created_at, t.finished_at FROM task t INDEXED BY task_of_session
 WHERE t.session_key = (SELECT key FROM session WHERE id = :id) ORDER BY t.key DESC LIMIT :limit;

-- name: touched
-- The tasks that something was told of between two events.
SELECT DISTINCT task_key AS key FROM event WHERE id >= :first AND id < :below AND task_key IS NOT NULL LIMIT :limit;

-- name: event_from
-- The first event at or behind an id.
SELECT id, created_at AS at FROM event WHERE id >= :id ORDER BY id LIMIT 1;

-- name: audit_from
-- The first decision at or behind an id.
SELECT id, at FROM audit_log WHERE id >= :id ORDER BY id LIMIT 1;

-- name: heads
-- The highest ids of both logs.
SELECT (SELECT max(id) FROM event) AS event, (SELECT max(id) FROM audit_log) AS audit;

-- name: task_row
-- A task as readers see it.
SELECT v.* FROM tasks v WHERE v.id = (SELECT id FROM task WHERE key = :key);

-- name: steps
-- The journal of a task as readers see it, with what it asked for.
SELECT s.id, t.id AS task_id, s.seq, s.kind, s.step_key AS key, s.state, s.effect, s.tool, s.request_hash, s.request_json,
       s.evidence_json, s.result_json, s.created_at, s.finished_at
  FROM step s JOIN task t ON t.key = s.task_key WHERE s.task_key = :key ORDER BY s.seq LIMIT :limit;

-- name: task_events
-- The events of a task.
SELECT e.id AS event_id, e.type AS event_type, t.id AS task_id, e.state_from, e.state_to, e.token, e.payload_json,
       e.created_at
  FROM event e INDEXED BY event_task JOIN task t ON t.key = e.task_key WHERE e.task_key = :key ORDER BY e.id LIMIT :limit;

-- name: other_events
-- Events of no task between two ids.
SELECT id AS event_id, type AS event_type, NULL AS task_id, state_from, state_to, token, payload_json, created_at
  FROM event WHERE id >= :first AND id < :below AND task_key IS NULL ORDER BY id LIMIT :limit;

-- name: decisions
-- Decisions between two ids.
SELECT id, at, subject, capability, resource, argv_json, verdict, reason, policy_version, pinned_version, task_id
  FROM audit_log WHERE id >= :first AND id < :below ORDER BY id LIMIT :limit;
