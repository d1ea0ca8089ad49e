-- name: insert
-- A schedule that is not there yet.
INSERT INTO schedule (id, name, source, kind, cron, zone, every_ms, anchor, at, task_kind, payload_json, agent_id,
                      session_id, priority, max_attempts, deadline_ms, enabled, declared, missed, overlap, watermark,
                      next_at, last_at, created_at, updated_at)
VALUES (:id, :name, :source, :kind, :cron, :zone, :every_ms, :anchor, :at, :task_kind, :payload_json, :agent_id,
        :session_id, :priority, :max_attempts, :deadline_ms, :enabled, :declared, :missed, :overlap, :watermark,
        :next_at, :last_at, :created_at, :updated_at);

-- name: update
-- A schedule as it is now defined and stands; the watermark never goes back.
UPDATE schedule
   SET name = :name, source = :source, kind = :kind, cron = :cron, zone = :zone, every_ms = :every_ms, anchor = :anchor,
       at = :at, task_kind = :task_kind, payload_json = :payload_json, agent_id = :agent_id, session_id = :session_id,
       priority = :priority, max_attempts = :max_attempts, deadline_ms = :deadline_ms, enabled = :enabled,
       declared = :declared, missed = :missed, overlap = :overlap, watermark = :watermark, next_at = :next_at,
       updated_at = :updated_at
 WHERE id = :id AND watermark <= :watermark;

-- name: advance
-- Move the watermark; it never goes back.
UPDATE schedule SET watermark = :watermark, next_at = :next_at, last_at = coalesce(:last_at, last_at)
 WHERE id = :id AND watermark <= :watermark;

-- name: touch
-- A run outside of the plan.
UPDATE schedule SET last_at = :last_at WHERE id = :id;

-- name: delete
-- A schedule goes; what became of its instants stays.
DELETE FROM schedule WHERE id = :id;

-- name: by_id
-- One schedule.
SELECT * FROM schedule WHERE id = :id;

-- name: page
-- Schedules by id, behind a cursor.
SELECT * FROM schedule WHERE id > :after ORDER BY id LIMIT :limit;

-- name: of_source
-- Ids of the schedules that came from there.
SELECT id FROM schedule WHERE source = :source ORDER BY id;

-- name: count
-- How many schedules there are.
SELECT count(*) FROM schedule;

-- name: due
-- Schedules whose instant has come, the earliest first.
SELECT * FROM schedule WHERE next_at <= :now ORDER BY next_at LIMIT :limit;

-- name: next_wake
-- The earliest instant that any schedule waits for.
SELECT next_at FROM schedule WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1;

-- name: record
-- How a planned instant ended; the first word stands.
INSERT INTO occurrence (job_id, planned_at, outcome, reason, task_key, first, last, count, open, created_at)
VALUES (:job_id, :planned_at, :outcome, :reason, (SELECT key FROM task WHERE id = :task_id), :first, :last, :count,
        :open, :now)
ON CONFLICT (job_id, planned_at) DO NOTHING;

-- name: recorded
-- Whether this instant has ended already.
SELECT 1 FROM occurrence WHERE job_id = :job_id AND planned_at = :planned_at;

-- name: newest
-- The last instant of a job that has ended, as far as it is kept.
SELECT last FROM occurrence WHERE job_id = :job_id ORDER BY planned_at DESC LIMIT 1;

-- name: close_ended
-- Runs whose task has ended do not overlap any more. Left alone, SQLite walks the whole history by the primary key.
UPDATE occurrence INDEXED BY occurrence_open SET open = 0
 WHERE job_id = :job_id AND open = 1
   AND (SELECT finished_at FROM task WHERE key = occurrence.task_key) IS NOT NULL;

-- name: unfinished
-- The newest run that has not ended.
SELECT t.id FROM occurrence o INDEXED BY occurrence_open JOIN task t ON t.key = o.task_key
 WHERE o.job_id = :job_id AND o.open = 1 ORDER BY o.planned_at DESC LIMIT 1;

-- name: history
-- What became of a job's instants, newest first, below a cursor.
SELECT o.job_id, o.planned_at, o.outcome, o.reason, t.id AS task_id, o.first, o.last, o.count
  FROM occurrence o LEFT JOIN task t ON t.key = o.task_key
 WHERE o.job_id = :job_id AND o.planned_at < :before ORDER BY o.planned_at DESC LIMIT :limit;
