-- name: messages
-- What was said in a session behind a cursor, oldest first.
SELECT m.id, s.id AS session_id, s.agent_id, m.role, m.content_json, m.text, t.id AS task_id, m.tokens, m.created_at
  FROM message m JOIN session s ON s.key = m.session_key LEFT JOIN task t ON t.key = m.task_key
 WHERE m.session_key = :key AND m.id > :after ORDER BY m.id LIMIT :limit;
