-- name: insert
-- A new task.
INSERT INTO task (id, kind, agent_id, session_key, parent_key, state, wait_reason, priority, rank, place, available_at,
                  wake_at, deadline_at, timeout_ms, max_attempts, idempotency_key, request_digest, created_at, updated_at)
VALUES (:id, :kind, :agent_id, :session_key, :parent_key, 'QUEUED', :wait_reason, :priority, :rank, :place,
        :available_at, :wake_at, :deadline_at, :timeout_ms, :max_attempts, :idempotency_key, :request_digest, :now, :now);

-- name: insert_input
-- What the task is to work on.
INSERT INTO task_input (task_key, payload_json) VALUES (:task_key, :payload_json);

-- name: claim
-- The next task of an agent in claim order gets its lease and starts; a paused one stays.
UPDATE task SET state = 'RUNNING', wake_at = deadline_at, attempt = attempt + 1, lease_owner = :owner, lease_token = :token,
       lease_until = :until, lease_expires_at = :expires, policy_version = :policy_version, updated_at = :now
 WHERE key = (SELECT key FROM task
               WHERE state = 'QUEUED' AND wait_reason IS NULL AND agent_id = :agent_id
                 AND kind NOT IN (SELECT name FROM pause WHERE scope = 'kind')
                 AND NOT EXISTS (SELECT 1 FROM pause WHERE scope = 'all' OR (scope = 'agent' AND name = :agent_id))
               ORDER BY rank, key LIMIT 1)
RETURNING key;

-- name: claim_suspect
-- One task that was running at two unclean stops gets its lease and starts.
UPDATE task SET state = 'RUNNING', wake_at = deadline_at, attempt = attempt + 1, lease_owner = :owner, lease_token = :token,
       lease_until = :until, lease_expires_at = :expires, policy_version = :policy_version, updated_at = :now
 WHERE key = :key AND state = 'QUEUED' AND wait_reason IS NULL
RETURNING key;

-- name: suspect
-- The task that is to run alone next, among those that a lane serves and no pause holds.
SELECT key, agent_id FROM task INDEXED BY task_suspect
 WHERE deaths >= 2 AND state = 'QUEUED' AND wait_reason IS NULL
   AND agent_id IN (SELECT value FROM json_each(:agents))
   AND kind NOT IN (SELECT name FROM pause WHERE scope = 'kind')
   AND NOT EXISTS (SELECT 1 FROM pause p WHERE p.scope = 'all' OR (p.scope = 'agent' AND p.name = task.agent_id))
 ORDER BY rank, key LIMIT 1;

-- name: lone_suspect
-- Whether a task that must run alone could do so now.
SELECT 1 FROM task INDEXED BY task_suspect
 WHERE deaths >= 2 AND state = 'QUEUED' AND wait_reason IS NULL
   AND NOT EXISTS (SELECT 1 FROM task h WHERE h.lease_token IS NOT NULL) LIMIT 1;

-- name: held
-- How many tasks somebody holds, and the highest number of deaths among them.
SELECT count(*) AS held, coalesce(max(deaths), 0) AS deaths FROM task WHERE lease_token IS NOT NULL;

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
SELECT t.*, s.id AS session_id, p.id AS parent_task_id, i.payload_json
  FROM task t LEFT JOIN session s ON s.key = t.session_key LEFT JOIN task p ON p.key = t.parent_key
  JOIN task_input i ON i.task_key = t.key WHERE t.key = :key;

-- name: by_id
-- One task with all that belongs to it, by its public id.
SELECT t.*, s.id AS session_id, p.id AS parent_task_id, i.payload_json
  FROM task t LEFT JOIN session s ON s.key = t.session_key LEFT JOIN task p ON p.key = t.parent_key
  JOIN task_input i ON i.task_key = t.key WHERE t.id = :id;

-- name: by_idempotency_key
-- The task an earlier submission with this key made.
SELECT t.key, t.request_digest FROM task t WHERE t.idempotency_key = :idempotency_key;

-- name: page
-- Tasks from the newest on, below a cursor, by filters that may be null.
SELECT t.*, s.id AS session_id, p.id AS parent_task_id, i.payload_json
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
SELECT queued FROM queue_depth WHERE agent_id = :agent_id;

-- name: depths
-- How many tasks are QUEUED, by agent.
SELECT agent_id, queued FROM queue_depth;

-- name: session_head
-- The task whose turn it is in a session.
SELECT key FROM task WHERE session_key = :session_key AND place IS NOT NULL AND finished_at IS NULL
 ORDER BY place LIMIT 1;

-- name: unblock
-- A new head of its session may be claimed.
UPDATE task SET wait_reason = NULL WHERE key = :key AND state = 'QUEUED' AND wait_reason = 'session' RETURNING agent_id;

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
SELECT key FROM task WHERE lease_token IS NOT NULL AND lease_owner IS NOT :owner ORDER BY key;

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
