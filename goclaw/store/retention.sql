-- name: task_from
-- The first task at or behind a key: what the search for an age looks at.
SELECT key, created_at AS at FROM task WHERE key >= :key ORDER BY key LIMIT 1;

-- name: event_from
-- The first event at or behind an id.
SELECT id AS key, created_at AS at FROM event WHERE id >= :key ORDER BY id LIMIT 1;

-- name: audit_from
-- The first audit row at or behind an id.
SELECT id AS key, at FROM audit_log WHERE id >= :key ORDER BY id LIMIT 1;

-- name: newest
-- The highest keys there are.
SELECT (SELECT max(key) FROM task) AS task, (SELECT max(id) FROM event) AS event, (SELECT max(id) FROM audit_log) AS audit;

-- name: due_tasks
-- Tasks that are over and old enough, or beyond the number to keep, children before their parents.
SELECT key FROM task
 WHERE key < :below AND finished_at IS NOT NULL AND (finished_at < :before OR key <= :surplus)
   AND NOT EXISTS (SELECT 1 FROM task c WHERE c.parent_key = task.key)
 ORDER BY key DESC LIMIT :limit;

-- name: is_due
-- Whether this task may still go.
SELECT 1 FROM task
 WHERE key = :key AND finished_at IS NOT NULL AND (finished_at < :before OR key <= :surplus)
   AND NOT EXISTS (SELECT 1 FROM task c WHERE c.parent_key = :key);

-- name: events_of_task
-- What the chain needs to know of a task's events.
SELECT id, chain FROM event INDEXED BY event_task WHERE task_key = :key ORDER BY id;

-- name: detach_messages
-- What was said stays with its session.
UPDATE message SET task_key = NULL WHERE task_key = :key;

-- name: drop_occurrences
-- The run of a schedule goes with its task; the watermark stays.
DELETE FROM occurrence WHERE task_key = :key;

-- name: drop_steps
-- The journal of a task.
DELETE FROM step WHERE task_key = :key;

-- name: drop_input
-- What the task was to work on.
DELETE FROM task_input WHERE task_key = :key;

-- name: drop_task_events
-- The events of a task.
DELETE FROM event WHERE task_key = :key;

-- name: drop_task
-- The task itself, with its idempotency key.
DELETE FROM task WHERE key = :key;

-- name: due_events
-- Events of no task, in a stretch of the log.
SELECT id, chain FROM event WHERE id > :after AND id < :below AND task_key IS NULL ORDER BY id LIMIT :limit;

-- name: drop_event
-- One event.
DELETE FROM event WHERE id = :id;

-- name: due_audit
-- The oldest audit rows below an id.
SELECT id, chain FROM audit_log WHERE id < :below ORDER BY id LIMIT :limit;

-- name: drop_audit
-- The oldest audit rows, up to an id.
DELETE FROM audit_log WHERE id <= :upto;

-- name: next_job
-- The next schedule that has a history.
SELECT min(job_id) FROM occurrence WHERE job_id > :after;

-- name: surplus_occurrence
-- The newest occurrence of a schedule beyond the number to keep.
SELECT planned_at FROM occurrence WHERE job_id = :job_id ORDER BY planned_at DESC LIMIT 1 OFFSET :rows;

-- name: due_occurrences
-- How many instants that led to no task are due.
SELECT count(*) FROM (SELECT 1 FROM occurrence
 WHERE job_id = :job_id AND task_key IS NULL AND (created_at < :before OR planned_at <= :surplus) LIMIT :limit);

-- name: drop_due_occurrences
-- Instants that led to no task.
DELETE FROM occurrence WHERE job_id = :job_id AND planned_at IN (
    SELECT planned_at FROM occurrence
     WHERE job_id = :job_id AND task_key IS NULL AND (created_at < :before OR planned_at <= :surplus) LIMIT :limit);

-- name: due_session
-- The next session nobody has spoken in for long and no task belongs to.
SELECT key FROM session
 WHERE key > :after AND updated_at < :before AND NOT EXISTS (SELECT 1 FROM task t WHERE t.session_key = session.key)
 ORDER BY key LIMIT 1;

-- name: is_due_session
-- Whether this session may still go.
SELECT 1 FROM session
 WHERE key = :key AND updated_at < :before AND NOT EXISTS (SELECT 1 FROM task t WHERE t.session_key = session.key);

-- name: messages_of_session
-- The oldest messages of a session.
SELECT id FROM message WHERE session_key = :key ORDER BY id LIMIT :limit;

-- name: drop_message
-- One message.
DELETE FROM message WHERE id = :id;

-- name: events_of_session
-- The oldest events of a session that has no task left.
SELECT id, chain FROM event INDEXED BY event_session WHERE session_key = :key ORDER BY id LIMIT :limit;

-- name: drop_purge
-- That it was purged need not be known any more.
DELETE FROM purge WHERE session_key = :key;

-- name: drop_session
-- The session itself.
DELETE FROM session WHERE key = :key;

-- name: policies
-- Versions of the policy, the latest loaded first, with when the next one took over.
SELECT version, lead(loaded_at) OVER (ORDER BY loaded_at) AS replaced_at FROM policy_versions ORDER BY loaded_at DESC;

-- name: drop_policy
-- A version that nothing kept can name, unless it was loaded again.
DELETE FROM policy_versions WHERE version = :version AND loaded_at < :before;
