-- name: fault
-- Count one fault in a row of a version; another version starts afresh; the limit quarantines.
INSERT INTO skill_registry (name, hash, state, faults, updated_at)
VALUES (:name, :hash, CASE WHEN 1 >= :limit THEN 'quarantined' ELSE 'active' END, 1, :now)
ON CONFLICT (name) DO UPDATE SET
    faults = CASE WHEN hash = excluded.hash THEN faults + 1 ELSE 1 END,
    state = CASE WHEN (CASE WHEN hash = excluded.hash THEN faults + 1 ELSE 1 END) >= :limit
                 THEN 'quarantined' ELSE 'active' END,
    hash = excluded.hash, updated_at = excluded.updated_at
RETURNING faults;

-- name: clear
-- No faults and active.
UPDATE skill_registry SET faults = 0, state = 'active', updated_at = :now WHERE name = :name;

-- name: all
-- Every record.
SELECT name, hash, state, faults FROM skill_registry ORDER BY name;
