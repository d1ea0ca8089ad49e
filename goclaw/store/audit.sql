-- name: last
-- The head of the audit log.
SELECT id, chain FROM audit_log ORDER BY id DESC LIMIT 1;

-- name: insert
-- Append one decision.
INSERT INTO audit_log (id, at, subject, capability, resource, argv_json, verdict, reason, policy_version, pinned_version,
                       task_id, chain)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: tail
-- The newest decisions below a cursor.
SELECT id, at, subject, capability, resource, argv_json, verdict, reason, policy_version, pinned_version, task_id
  FROM audit_log WHERE id < :before ORDER BY id DESC LIMIT :limit;

-- name: keep_policy
-- Remember what a version of the policy said.
INSERT INTO policy_versions (version, rules_json, loaded_at) VALUES (:version, :rules_json, :now)
ON CONFLICT (version) DO UPDATE SET loaded_at = excluded.loaded_at;

-- name: policies
-- The most recent versions.
SELECT version, rules_json FROM policy_versions ORDER BY loaded_at DESC LIMIT :limit;
