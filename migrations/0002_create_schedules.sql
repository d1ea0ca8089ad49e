-- Schedules and what became of each planned instant.
--
-- watermark: nothing planned at or before it is ever submitted (again). next_at: the next planned instant above it, NULL
-- for a job that is disabled or over; the scheduler's one index. open: the run's task may not have ended yet.

CREATE TABLE schedule (
    id           TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    name         TEXT NOT NULL,
    source       TEXT NOT NULL CHECK (source IN ('config', 'api')),
    kind         TEXT NOT NULL CHECK (kind IN ('cron', 'every', 'at')),
    cron         TEXT,
    zone         TEXT,
    every_ms     INTEGER CHECK (every_ms >= 1000),
    anchor       INTEGER,
    at           INTEGER,
    task_kind    TEXT NOT NULL,
    payload_json TEXT NOT NULL,
    agent_id     TEXT,
    session_id   TEXT,
    priority     INTEGER NOT NULL CHECK (priority BETWEEN -10 AND 10),
    max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
    deadline_ms  INTEGER,
    enabled      INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    declared     INTEGER CHECK (declared IN (0, 1)),
    missed       TEXT NOT NULL,
    overlap      TEXT NOT NULL CHECK (overlap IN ('skip', 'allow')),
    watermark    INTEGER NOT NULL,
    next_at      INTEGER,
    last_at      INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    CHECK ((kind = 'cron') = (cron IS NOT NULL AND zone IS NOT NULL)),
    CHECK ((kind = 'every') = (every_ms IS NOT NULL AND anchor IS NOT NULL)),
    CHECK ((kind = 'at') = (at IS NOT NULL)),
    CHECK ((source = 'config') = (declared IS NOT NULL)),
    CHECK (next_at IS NULL OR (enabled = 1 AND next_at > watermark))
) STRICT, WITHOUT ROWID;

CREATE INDEX schedule_due ON schedule (next_at) WHERE next_at IS NOT NULL;

-- It outlives its job: history stays when a schedule is removed.
CREATE TABLE occurrence (
    job_id     TEXT NOT NULL,
    planned_at INTEGER NOT NULL,
    outcome    TEXT NOT NULL CHECK (outcome IN ('ran', 'coalesced', 'skipped', 'missed')),
    reason     TEXT,
    task_key   INTEGER REFERENCES task (key),
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    count      INTEGER NOT NULL CHECK (count >= 1),
    open       INTEGER NOT NULL CHECK (open IN (0, 1)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, planned_at),
    CHECK (first = planned_at AND last >= first),
    CHECK (outcome <> 'ran' OR task_key IS NOT NULL),
    CHECK (open = 0 OR outcome = 'ran')
) STRICT, WITHOUT ROWID;

-- The runs an overlap must look at.
CREATE INDEX occurrence_open ON occurrence (job_id) WHERE open = 1;
-- A task that is deleted one day is found by its occurrences without a scan.
CREATE INDEX occurrence_task ON occurrence (task_key) WHERE task_key IS NOT NULL;

CREATE VIEW schedules AS
    SELECT id, name, source, kind, cron, zone, every_ms, anchor, at, task_kind, payload_json, agent_id, session_id,
           priority, max_attempts, deadline_ms, enabled, missed, overlap, watermark, next_at, last_at, created_at,
           updated_at
      FROM schedule;

CREATE VIEW occurrences AS
    SELECT o.job_id, o.planned_at, o.outcome, o.reason, t.id AS task_id, o.first, o.last, o.count, o.created_at
      FROM occurrence o LEFT JOIN task t ON t.key = o.task_key;
