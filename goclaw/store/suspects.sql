-- name: died
-- Tasks that were running at an unclean stop and may be claimed now.
SELECT key, session_key, concurrency_key FROM task WHERE state = 'QUEUED' AND wait_reason IS NULL AND deaths >= 1;

-- name: hold
-- Such a task waits as one that was submitted with a delay does; it keeps its place in its session.
UPDATE task SET wait_reason = 'delay', available_at = :until, wake_at = min(:until, coalesce(deadline_at, :until)),
       updated_at = :now
 WHERE key = :key AND state = 'QUEUED' AND wait_reason IS NULL;
