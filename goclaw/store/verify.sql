-- name: events
-- Stored columns of the event log behind a cursor, for its chain.
SELECT id, type, task_key, session_key, state_from, state_to, token, created_at, digest, chain, payload_json
  FROM event WHERE id > :cursor ORDER BY id LIMIT :limit;

-- name: audit_rows
-- Stored columns of the audit log behind a cursor, for its chain.
SELECT id, at, subject, capability, resource, argv_json, verdict, reason, policy_version, pinned_version, task_id, chain
  FROM audit_log WHERE id > :cursor ORDER BY id LIMIT :limit;

-- name: event_chain
-- The chain value of one event.
SELECT chain FROM event WHERE id = :id;

-- name: audit_chain
-- The chain value of one audit row.
SELECT chain FROM audit_log WHERE id = :id;

-- name: event_head
-- The newest event.
SELECT id, chain FROM event WHERE id = (SELECT max(id) FROM event);

-- name: audit_head
-- The newest audit row.
SELECT id, chain FROM audit_log WHERE id = (SELECT max(id) FROM audit_log);

-- name: holes
-- The removed ranges that begin behind a cursor and not after an id, in order.
SELECT first_id, last_id, chain FROM removed_range
 WHERE log = :log AND first_id > :cursor AND first_id <= :upto ORDER BY first_id;

-- name: purged
-- Whether the session of an event, or of its task, was purged.
SELECT 1 FROM purge
 WHERE session_key = coalesce(:session_key, (SELECT session_key FROM task WHERE key = :task_key));

-- name: strays
-- Events in a span of ids that name a task that is not there.
SELECT e.id, e.task_key FROM event e LEFT JOIN task t ON t.key = e.task_key
 WHERE e.id > :cursor AND e.id <= :upto AND e.task_key IS NOT NULL AND t.key IS NULL ORDER BY e.id LIMIT 10;

-- name: newest_task
-- The highest key of a task.
SELECT coalesce(max(key), 0) FROM task;

-- name: tasks
-- Tasks behind a cursor, with what their events must explain.
SELECT key, id, kind, agent_id, session_key, place, state, attempt, deaths, wait_reason, available_at, lease_token,
       finished_at, error_code, error, result_json IS NOT NULL AS has_result
  FROM task WHERE key > :cursor AND key <= :upto ORDER BY key LIMIT :limit;

-- name: task_events
-- The events of one task behind a cursor, in order.
SELECT id, type, state_from, state_to, token, created_at, digest, payload_json
  FROM event INDEXED BY event_task WHERE task_key = :task_key AND id > :cursor ORDER BY id LIMIT :limit;

-- name: task_steps
-- The journal of one task, in order.
SELECT step_key, seq, state, request_hash, result_json FROM step WHERE task_key = :task_key ORDER BY seq;

-- name: session_head
-- The task whose turn it is in a session.
SELECT key FROM task WHERE session_key = :session_key AND place IS NOT NULL AND finished_at IS NULL
 ORDER BY place LIMIT 1;

-- name: queued
-- How many tasks in a span of keys are QUEUED, by agent and kind.
SELECT agent_id, kind, count(*) AS queued FROM task
 WHERE key > :cursor AND key <= :upto AND state = 'QUEUED' GROUP BY agent_id, kind;

-- name: depths
-- The kept number of QUEUED tasks, by agent and kind.
SELECT agent_id, kind, queued FROM queue_depth;

-- name: seals
-- The audit rows behind a cursor that seal the removed ranges, in order.
SELECT argv_json FROM audit_log WHERE id > :cursor AND capability IN ('data.retention', 'data.purge') ORDER BY id;
