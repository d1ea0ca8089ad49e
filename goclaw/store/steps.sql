-- name: insert
-- Record a new step at the end of the task's journal.
INSERT INTO step (task_key, seq, step_key, kind, state, effect, tool, request_hash, created_at, evidence_json, request_json)
VALUES (:task_key, (SELECT coalesce(max(seq), 0) + 1 FROM step WHERE task_key = :task_key),
        :key, :kind, :state, :effect, :tool, :request_hash, :now, :evidence_json, :request_json)
RETURNING seq;

-- name: start
-- An intended (or, judged again, a running) step begins.
UPDATE step SET state = 'running', evidence_json = :evidence_json, effect = coalesce(:effect, effect)
 WHERE task_key = :task_key AND step_key = :key AND state IN ('intended', 'running')
RETURNING seq, kind, tool, request_hash;

-- name: end
-- A step ends; one that has ended already stays as it is.
UPDATE step SET state = :state, result_json = :result_json, finished_at = :now
 WHERE task_key = :task_key AND step_key = :key AND state IN ('intended', 'running')
RETURNING seq, kind, tool, request_hash;

-- name: of_task
-- The journal of a task, in order.
SELECT step_key, seq, kind, state, effect, tool, request_hash, request_json, evidence_json, result_json, created_at,
       finished_at
  FROM step WHERE task_key = :task_key ORDER BY seq;

-- name: of_tasks
-- The journals of some tasks, each in order.
SELECT step.task_key, step_key, seq, kind, state, effect, tool, request_hash, request_json, evidence_json, result_json,
       created_at, finished_at
  FROM json_each(?) wanted JOIN step ON step.task_key = wanted.value ORDER BY step.task_key, seq;

-- name: named
-- Some steps of a task, in order.
SELECT step_key, seq, kind, state, effect, tool, request_hash, request_json, evidence_json, result_json, created_at,
       finished_at
  FROM step WHERE task_key = :task_key AND step_key IN (SELECT value FROM json_each(:keys)) ORDER BY seq;

-- name: listed
-- The journal of a task as readers see it.
SELECT p.id, t.id AS task_id, p.seq, p.kind, p.step_key AS key, p.state, p.effect, p.tool, p.request_hash, p.result_json,
       p.created_at, p.finished_at
  FROM step p JOIN task t ON t.key = p.task_key WHERE t.id = :task_id ORDER BY p.seq;

-- name: running_unsafe
-- Steps whose effect had begun and may not be repeated.
SELECT step_key FROM step WHERE task_key = :task_key AND state = 'running' AND effect = 'unsafe' ORDER BY seq;

-- name: unsettled
-- Unknown steps that no model was told of: none was asked after them, or none that was asked gave an answer. One whose
-- call is still open counts as told: its request is recorded and must stay the same.
SELECT step_key FROM step u WHERE u.task_key = :task_key AND u.state = 'unknown'
   AND NOT EXISTS (SELECT 1 FROM step l
                    WHERE l.task_key = u.task_key AND l.kind = 'llm' AND l.state IN ('done', 'running') AND l.seq > u.seq)
 ORDER BY u.seq;

-- name: resolve
-- A person settles an unknown step.
UPDATE step SET state = :state, result_json = :result_json, finished_at = :finished_at
 WHERE task_key = :task_key AND step_key = :key AND state = 'unknown'
RETURNING seq, kind, tool, request_hash;
