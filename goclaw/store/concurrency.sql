-- name: room
-- How many more tasks of a name may be claimed: its limit less those that are held or may be claimed already.
SELECT coalesce((SELECT most FROM concurrency_limit WHERE name = :name), 1)
       - (SELECT count(*) FROM task WHERE concurrency_key = :name AND wait_reason IS NULL AND finished_at IS NULL);

-- name: last_in
-- The task of a name that may be claimed and would be the last to be. One that is to run alone runs before all others
-- and beside nobody: it need not make way.
SELECT key, rank FROM task
 WHERE concurrency_key = ? AND wait_reason IS NULL AND finished_at IS NULL AND state = 'QUEUED' AND deaths < 2
 ORDER BY rank DESC, key DESC LIMIT 1;

-- name: park
-- A task that may be claimed waits for its name.
UPDATE task SET wait_reason = 'concurrency' WHERE key = ? AND state = 'QUEUED' AND wait_reason IS NULL;

-- name: waiting
-- The next tasks that wait for a name.
SELECT key FROM task
 WHERE concurrency_key = ? AND wait_reason = 'concurrency' AND finished_at IS NULL ORDER BY rank, key LIMIT ?;

-- name: admit
-- A task that waited for its name may be claimed.
UPDATE task SET wait_reason = NULL WHERE key = ? AND state = 'QUEUED' AND wait_reason = 'concurrency' RETURNING agent_id;

-- name: names
-- The names that unfinished tasks have.
SELECT DISTINCT concurrency_key FROM task WHERE concurrency_key IS NOT NULL AND finished_at IS NULL;

-- name: limits
-- How many of each configured name may run at once.
SELECT name, most FROM concurrency_limit;

-- name: drop_limits
-- Forget the configured limits.
DELETE FROM concurrency_limit;

-- name: set_limit
-- How many of a name may run at once.
INSERT INTO concurrency_limit (name, most) VALUES (?, ?);

-- name: next_name
-- The next name, in their order, that an unfinished task has.
SELECT concurrency_key FROM task
 WHERE concurrency_key > ? AND concurrency_key IS NOT NULL AND finished_at IS NULL ORDER BY concurrency_key LIMIT 1;

-- name: taking
-- How many tasks of a name run, and how many may be claimed.
SELECT count(lease_token), count(*) - count(lease_token) FROM task
 WHERE concurrency_key = ? AND wait_reason IS NULL AND finished_at IS NULL;

-- name: awaiting
-- How many tasks wait for a name, counted up to a bound.
SELECT count(*) FROM (
    SELECT 1 FROM task WHERE concurrency_key = :name AND wait_reason = 'concurrency' AND finished_at IS NULL
     LIMIT :most);
