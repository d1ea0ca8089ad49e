-- name: of_agent_and_kind
-- The rate limit of an agent and kind, if it has one.
SELECT per_minute, due_at FROM start_rate WHERE agent_id = ? AND kind = ?;

-- name: charge
-- Attempts have started.
UPDATE start_rate SET due_at = ? WHERE agent_id = ? AND kind = ?;

-- name: pull_back
-- A clock that was turned back has left these too far ahead.
UPDATE start_rate SET due_at = :most WHERE due_at > :most;

-- name: limits
-- What is configured, and how far it is used up.
SELECT agent_id, kind, per_minute, due_at FROM start_rate ORDER BY agent_id, kind;

-- name: drop_limit
-- A limit is no longer configured.
DELETE FROM start_rate WHERE agent_id = ? AND kind = ?;

-- name: set_limit
-- A limit as configured; what was used stays used.
INSERT INTO start_rate (agent_id, kind, per_minute) VALUES (?, ?, ?)
    ON CONFLICT (agent_id, kind) DO UPDATE SET per_minute = excluded.per_minute;
