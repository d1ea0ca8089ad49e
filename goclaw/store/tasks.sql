-- name: insert
-- A new task.
INSERT INTO task (key, id, kind, agent_id, session_key, parent_key, state, wait_reason, priority, rank, place,
                  available_at, wake_at, deadline_at, timeout_ms, max_attempts, idempotency_key, request_digest,
                  created_at, updated_at, concurrency_key, unique_key)
VALUES (?, ?, ?, ?, ?, ?, 'QUEUED', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: last_key
-- The highest key any task ever had.
SELECT seq FROM sqlite_sequence WHERE name = 'task';

-- name: insert_input
-- What the task is to work on.
INSERT INTO task_input (task_key, payload_json) VALUES (?, ?);

-- name: lane
-- What a claim of an agent has to know: the kinds it has queued and nobody has paused with their rates, how many of its
-- tasks somebody holds, and whether any task must run alone.
SELECT q.kind, r.per_minute, r.due_at,
       (SELECT count(*) FROM task WHERE lease_token IS NOT NULL AND agent_id = :agent_id),
       EXISTS (SELECT 1 FROM task INDEXED BY task_suspect WHERE deaths >= 2 AND finished_at IS NULL)
  FROM queue_depth q LEFT JOIN start_rate r ON r.agent_id = q.agent_id AND r.kind = q.kind
 WHERE q.agent_id = :agent_id AND q.queued > 0 AND q.kind NOT IN (SELECT name FROM pause WHERE scope = 'kind')
   AND NOT EXISTS (SELECT 1 FROM pause WHERE scope = 'all' OR (scope = 'agent' AND name = :agent_id));

-- name: next_of_kind
-- The next tasks of an agent and kind in claim order.
SELECT rank, key FROM task
 WHERE state = 'QUEUED' AND wait_reason IS NULL AND agent_id = ? AND kind = ? ORDER BY rank, key LIMIT ?;

-- name: claim
-- A task gets its lease and starts.
UPDATE task SET state = 'RUNNING', wake_at = deadline_at, attempt = attempt + 1, lease_owner = ?, lease_token = ?,
       lease_until = ?, lease_expires_at = ?, policy_version = ?, updated_at = ?
 WHERE key = ? AND state = 'QUEUED' AND wait_reason IS NULL;

-- name: suspect
-- The tasks that are to run alone next, among those that a lane serves and no pause holds.
SELECT key, agent_id, kind FROM task INDEXED BY task_suspect
 WHERE deaths >= 2 AND finished_at IS NULL AND state = 'QUEUED' AND wait_reason IS NULL
   AND agent_id IN (SELECT value FROM json_each(:agents))
   AND kind NOT IN (SELECT name FROM pause WHERE scope = 'kind')
   AND NOT EXISTS (SELECT 1 FROM pause p WHERE p.scope = 'all' OR (p.scope = 'agent' AND p.name = task.agent_id))
 ORDER BY rank, key LIMIT 100;

-- name: suspects
-- Whether any task must run alone: one that waits, or one that does.
SELECT 1 FROM task INDEXED BY task_suspect WHERE deaths >= 2 AND finished_at IS NULL LIMIT 1;

-- name: held
-- How many tasks somebody holds, and the highest number of deaths among them.
SELECT count(*) AS held, coalesce(max(deaths), 0) AS deaths FROM task WHERE lease_token IS NOT NULL;

-- name: succeed
-- The end most tasks come to, for a set of them: [[key, token, result, usage], ...]. One that was asked to cancel, or
-- whose lease is gone, stays as it is.
UPDATE task SET state = 'SUCCEEDED', wait_reason = NULL, available_at = :now, wake_at = NULL, fingerprint = NULL,
       fingerprint_count = 0, lease_owner = NULL, lease_token = NULL, lease_until = NULL, lease_expires_at = NULL,
       updated_at = :now, finished_at = :now, error_code = NULL, error = NULL, usage_json = json_extract(ended.value, '$[3]'),
       result_json = json_extract(ended.value, '$[2]')
  FROM json_each(:ends) ended
 WHERE task.key = json_extract(ended.value, '$[0]') AND state = 'RUNNING' AND lease_token = json_extract(ended.value, '$[1]')
   AND cancel_requested = 0
RETURNING task.key, progress_json;

-- name: transition
-- The one way from state to state but for the claim: every column that a state owns is set at once, guarded by the
-- state it leaves and by the lease the caller holds.
UPDATE task SET state = :state, wait_reason = :wait_reason, available_at = :available_at, wake_at = :wake_at, rank = :rank,
       place = :place, attempt = :attempt, deaths = :deaths, fingerprint = :fingerprint,
       fingerprint_count = :fingerprint_count, cancel_requested = :cancel_requested, cancel_reason = :cancel_reason,
       lease_owner = NULL, lease_token = NULL, lease_until = NULL, lease_expires_at = NULL,
       updated_at = :now, finished_at = :finished_at, error_code = :error_code, error = :error, usage_json = :usage_json,
       result_json = :result_json
 WHERE key = :key AND state = :state_from AND lease_token IS :token;

-- name: lift_deadline
-- A task that is put back after its deadline has none any more.
UPDATE task SET deadline_at = NULL WHERE key = :key AND deadline_at <= :now;

-- name: by_key
-- One task with all that belongs to it.
SELECT t.key, t.id, t.kind, s.id, t.agent_id, t.state, t.priority, t.attempt, t.max_attempts, t.deaths, t.available_at,
       t.wait_reason, i.payload_json, t.result_json, t.error, t.error_code, t.progress_json, t.lease_owner,
       t.lease_token, t.lease_expires_at, t.cancel_requested, t.cancel_reason, t.idempotency_key, p.id,
       t.policy_version, t.usage_json, t.timeout_ms, t.deadline_at, t.fingerprint, t.fingerprint_count, t.created_at,
       t.updated_at, t.finished_at, t.concurrency_key, t.unique_key, t.session_key, t.place, t.rank
  FROM task t LEFT JOIN session s ON s.key = t.session_key LEFT JOIN task p ON p.key = t.parent_key
  JOIN task_input i ON i.task_key = t.key WHERE t.key = :key;

-- name: claimed
-- Some tasks with all that belongs to them, by their keys as a JSON list, in its order; and whether
-- each has a journal.
SELECT t.key, t.id, t.kind, s.id, t.agent_id, t.state, t.priority, t.attempt, t.max_attempts, t.deaths, t.available_at,
       t.wait_reason, i.payload_json, t.result_json, t.error, t.error_code, t.progress_json, t.lease_owner,
       t.lease_token, t.lease_expires_at, t.cancel_requested, t.cancel_reason, t.idempotency_key, p.id,
       t.policy_version, t.usage_json, t.timeout_ms, t.deadline_at, t.fingerprint, t.fingerprint_count, t.created_at,
       t.updated_at, t.finished_at, t.concurrency_key, t.unique_key, t.session_key, t.place, t.rank,
       EXISTS (SELECT 1 FROM step WHERE step.task_key = t.key)
  FROM json_each(?) wanted JOIN task t ON t.key = wanted.value
  LEFT JOIN session s ON s.key = t.session_key LEFT JOIN task p ON p.key = t.parent_key
  JOIN task_input i ON i.task_key = t.key;

-- name: by_id
-- One task with all that belongs to it, by its public id.
SELECT t.key, t.id, t.kind, s.id, t.agent_id, t.state, t.priority, t.attempt, t.max_attempts, t.deaths, t.available_at,
       t.wait_reason, i.payload_json, t.result_json, t.error, t.error_code, t.progress_json, t.lease_owner,
       t.lease_token, t.lease_expires_at, t.cancel_requested, t.cancel_reason, t.idempotency_key, p.id,
       t.policy_version, t.usage_json, t.timeout_ms, t.deadline_at, t.fingerprint, t.fingerprint_count, t.created_at,
       t.updated_at, t.finished_at, t.concurrency_key, t.unique_key, t.session_key, t.place, t.rank
  FROM task t LEFT JOIN session s ON s.key = t.session_key LEFT JOIN task p ON p.key = t.parent_key
  JOIN task_input i ON i.task_key = t.key WHERE t.id = :id;

-- name: by_idempotency_key
-- The task an earlier submission with this key made.
SELECT t.key, t.request_digest FROM task t WHERE t.idempotency_key = :idempotency_key;

-- name: by_unique_key
-- The unfinished task with this unique key.
SELECT key FROM task WHERE unique_key = ? AND finished_at IS NULL;

-- name: descendants
-- The tasks below one that have not ended, whether or not those between have.
WITH RECURSIVE below (key) AS (
    SELECT key FROM task WHERE parent_key = ? UNION SELECT task.key FROM below JOIN task ON task.parent_key = below.key)
SELECT task.key FROM below JOIN task ON task.key = below.key WHERE task.finished_at IS NULL;

-- name: page
-- Tasks from the newest on, below a cursor, by filters that may be null.
SELECT t.key, t.id, t.kind, s.id, t.agent_id, t.state, t.priority, t.attempt, t.max_attempts, t.deaths, t.available_at,
       t.wait_reason, i.payload_json, t.result_json, t.error, t.error_code, t.progress_json, t.lease_owner,
       t.lease_token, t.lease_expires_at, t.cancel_requested, t.cancel_reason, t.idempotency_key, p.id,
       t.policy_version, t.usage_json, t.timeout_ms, t.deadline_at, t.fingerprint, t.fingerprint_count, t.created_at,
       t.updated_at, t.finished_at, t.concurrency_key, t.unique_key, t.session_key, t.place, t.rank
  FROM task t LEFT JOIN session s ON s.key = t.session_key LEFT JOIN task p ON p.key = t.parent_key
  JOIN task_input i ON i.task_key = t.key
 WHERE t.key < :cursor
   AND (:state IS NULL OR t.state = :state) AND (:kind IS NULL OR t.kind = :kind)
   AND (:session_id IS NULL OR s.id = :session_id) AND (:agent_id IS NULL OR t.agent_id = :agent_id)
   AND (:parent_task_id IS NULL OR p.id = :parent_task_id)
   AND (:since IS NULL OR t.created_at >= :since)
 ORDER BY t.key DESC LIMIT :limit;

-- name: depth
-- How many tasks of an agent are QUEUED.
SELECT coalesce(sum(queued), 0) FROM queue_depth WHERE agent_id = :agent_id;

-- name: shift_depth
-- So many more tasks of an agent and kind are QUEUED.
INSERT INTO queue_depth (agent_id, kind, queued) VALUES (?, ?, ?)
    ON CONFLICT (agent_id, kind) DO UPDATE SET queued = queued + excluded.queued;

-- name: depths
-- How many tasks are QUEUED, by agent.
SELECT agent_id, sum(queued) FROM queue_depth GROUP BY agent_id;

-- name: session_head
-- The task whose turn it is in a session.
SELECT key, place FROM task WHERE session_key = :session_key AND place IS NOT NULL AND finished_at IS NULL
 ORDER BY place LIMIT 1;

-- name: unblock
-- A new head has its session; what it waits for now, if anything, is its name.
UPDATE task SET wait_reason = :wait_reason
 WHERE key = :key AND state = 'QUEUED' AND wait_reason = 'session' RETURNING agent_id;

-- name: release
-- A delay is over: the task takes its place.
UPDATE task SET wait_reason = :wait_reason, place = :place, wake_at = deadline_at
 WHERE key = :key AND state = 'QUEUED' AND wait_reason = 'delay' RETURNING agent_id;

-- name: due
-- Tasks a timer must look at now.
SELECT key FROM task WHERE wake_at <= :now ORDER BY wake_at LIMIT :limit;

-- name: next_wake
-- When a timer must look again.
SELECT wake_at FROM task WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1;

-- name: request_cancel
-- A held task is asked to end; its holder does it.
UPDATE task SET cancel_requested = 1, cancel_reason = :reason, wake_at = NULL
 WHERE key = :key AND lease_token IS NOT NULL;

-- name: renew
-- All live leases at once; one that has run out is not revived.
UPDATE task SET lease_until = :until, lease_expires_at = :expires
 WHERE lease_token IS NOT NULL AND lease_owner = :owner AND lease_until >= :now
   AND lease_token IN (SELECT value FROM json_each(:tokens));

-- name: holds
-- Whether this attempt still counts.
SELECT 1 FROM task WHERE key = :key AND lease_token = :token AND state = 'RUNNING';

-- name: progress
-- How far the work is, guarded by the lease.
UPDATE task SET progress_json = :progress_json, updated_at = :now WHERE key = :key AND lease_token = :token;

-- name: orphans
-- Tasks held by a boot that is no more.
SELECT key FROM task INDEXED BY task_held WHERE lease_token IS NOT NULL AND lease_owner IS NOT :owner;

-- name: expired
-- Tasks of this boot whose lease has run out.
SELECT lease_token FROM task WHERE lease_token IS NOT NULL AND lease_owner = :owner AND lease_until < :now;

-- name: counts
-- The numbers of the status page that are cheap by index.
SELECT (SELECT count(*) FROM task WHERE lease_token IS NOT NULL) AS running,
       (SELECT count(*) FROM task WHERE wake_at IS NOT NULL AND state = 'RETRY_WAIT') AS retry_wait,
       (SELECT count(*) FROM task WHERE state = 'DEAD_LETTER') AS dead_letters;

-- name: pause
-- Hold the claim for a scope.
INSERT INTO pause (scope, name) VALUES (:scope, :name) ON CONFLICT DO NOTHING;

-- name: resume
-- Let the claim go on for a scope.
DELETE FROM pause WHERE scope = :scope AND name = :name;

-- name: pauses
-- What is held.
SELECT scope, name FROM pause ORDER BY scope, name;
