-- name: page
-- Tasks that can be put back, the oldest first between two keys, by filters that may be null.
SELECT t.key, t.id FROM task t LEFT JOIN session s ON s.key = t.session_key
 WHERE t.key > :above AND t.key <= :until AND t.state IN ('FAILED', 'CANCELED', 'DEAD_LETTER')
   AND (:state IS NULL OR t.state = :state) AND (:kind IS NULL OR t.kind = :kind)
   AND (:session_id IS NULL OR s.id = :session_id) AND (:agent_id IS NULL OR t.agent_id = :agent_id)
   AND (:since IS NULL OR t.created_at >= :since)
 ORDER BY t.key LIMIT :limit;
