-- name: ensure
-- Make a session unless it exists.
INSERT INTO session (id, agent_id, created_at, updated_at) VALUES (:id, :agent_id, :now, :now) ON CONFLICT (id) DO NOTHING;

-- name: by_id
-- One session.
SELECT key, id, agent_id, created_at, updated_at, ended_at FROM session WHERE id = :id;

-- name: touch
-- Note that something was said.
UPDATE session SET updated_at = :now, ended_at = NULL WHERE key = :key;

-- name: end
-- Mark a session as ended.
UPDATE session SET ended_at = :now, updated_at = :now WHERE key = :key;

-- name: page
-- Sessions from the newest on, below a cursor.
SELECT key, id, agent_id, created_at, updated_at, ended_at FROM session
 WHERE key < :cursor ORDER BY key DESC LIMIT :limit;

-- name: add_message
-- Store one message.
INSERT INTO message (session_key, task_key, turn, role, tokens, created_at, text, content_json)
VALUES (:session_key, :task_key, :turn, :role, :tokens, :now, :text, :content_json);

-- name: history
-- The newest messages of a session below a cursor, newest first.
SELECT m.id, s.id AS session_id, s.agent_id, m.role, m.content_json, m.text, t.id AS task_id, m.tokens, m.created_at
  FROM message m JOIN session s ON s.key = m.session_key LEFT JOIN task t ON t.key = m.task_key
 WHERE m.session_key = :session_key AND m.id < :before ORDER BY m.id DESC LIMIT :limit;

-- name: open_turn
-- A turn begins: its input takes its place in the conversation, for good.
UPDATE message SET turn = :turn WHERE task_key = :task_key AND turn IS NULL;

-- name: turn_bounds
-- The turn of a task, and the newest message there is.
SELECT (SELECT min(turn) FROM message WHERE task_key = :task_key) AS turn,
       (SELECT max(id) FROM message WHERE session_key = :session_key) AS upto;

-- name: of_turn
-- What a turn is told: earlier turns, then its own input, in turn order, as it stood when the turn began.
SELECT role, content_json FROM message
 WHERE session_key = :session_key AND turn <= :turn AND id <= :upto ORDER BY turn, id;

-- name: pin_part
-- Keep a part of a prompt by its hash.
INSERT INTO prompt_part (hash, body) VALUES (:hash, :body) ON CONFLICT (hash) DO NOTHING;

-- name: part
-- A part of a prompt.
SELECT body FROM prompt_part WHERE hash = :hash;
