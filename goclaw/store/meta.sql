-- name: get
-- One value by name.
SELECT value FROM meta WHERE name = :name;

-- name: put
-- Set a value.
INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
