-- The kernel's tables: sessions, tasks, their inputs, the event log, the journal, messages, audit.
--
-- Tables in the singular are the store's own: they refer to each other by integer keys, which a benchmark showed to be
-- a third faster than text keys. Views in the plural are the names promised to readers (SPEC, domain DATA).
-- Times are integer milliseconds since 1970 UTC, except lease_until (milliseconds of the boot's monotonic clock).

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 128),
    agent_id   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;

CREATE TABLE task (
    key               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    kind              TEXT NOT NULL,
    agent_id          TEXT NOT NULL,
    session_key       INTEGER REFERENCES session (key),
    parent_key        INTEGER REFERENCES task (key),
    state             TEXT NOT NULL CHECK (state IN ('QUEUED', 'CLAIMED', 'RUNNING', 'RETRY_WAIT',
                                                     'SUCCEEDED', 'FAILED', 'CANCELED', 'DEAD_LETTER')),
    wait_reason       TEXT CHECK (wait_reason IN ('delay', 'session', 'concurrency',
                                                  'backoff', 'provider', 'approval', 'children')),
    priority          INTEGER NOT NULL CHECK (priority BETWEEN -10 AND 10),
    rank              INTEGER NOT NULL,
    place             INTEGER,
    available_at      INTEGER NOT NULL,
    wake_at           INTEGER,
    deadline_at       INTEGER,
    timeout_ms        INTEGER,
    attempt           INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts      INTEGER NOT NULL CHECK (max_attempts >= 1),
    deaths            INTEGER NOT NULL DEFAULT 0,
    fingerprint       TEXT,
    fingerprint_count INTEGER NOT NULL DEFAULT 0,
    cancel_requested  INTEGER NOT NULL DEFAULT 0,
    cancel_reason     TEXT,
    lease_owner       TEXT,
    lease_token       INTEGER,
    lease_until       INTEGER,
    lease_expires_at  INTEGER,
    idempotency_key   TEXT,
    request_digest    TEXT,
    policy_version    TEXT,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    finished_at       INTEGER,
    error_code        TEXT,
    error             TEXT,
    usage_json        TEXT,
    progress_json     TEXT,
    result_json       TEXT,
    CHECK ((lease_token IS NOT NULL) = (state IN ('CLAIMED', 'RUNNING'))),
    CHECK ((finished_at IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELED', 'DEAD_LETTER'))),
    CHECK (wait_reason IS NULL OR state IN ('QUEUED', 'RETRY_WAIT')),
    CHECK (state <> 'RETRY_WAIT' OR (wait_reason IS NOT NULL AND wake_at IS NOT NULL))
) STRICT;

-- What may be claimed, in claim order; waiting, delayed and blocked tasks stand outside.
CREATE INDEX task_claim ON task (agent_id, rank) WHERE state = 'QUEUED' AND wait_reason IS NULL;
-- What a timer must look at: the end of a wait, or a deadline.
CREATE INDEX task_wake ON task (wake_at) WHERE wake_at IS NOT NULL;
-- The tasks that hold or await a session, in turn order; the first one is the head.
CREATE INDEX task_session ON task (session_key, place) WHERE place IS NOT NULL AND finished_at IS NULL;
-- The tasks somebody holds.
CREATE INDEX task_held ON task (key) WHERE lease_token IS NOT NULL;
-- Tasks that were running at two unclean stops: they run alone.
CREATE INDEX task_suspect ON task (rank) WHERE deaths >= 2 AND state = 'QUEUED' AND wait_reason IS NULL;
CREATE INDEX task_dead ON task (key) WHERE state = 'DEAD_LETTER';
CREATE UNIQUE INDEX task_idempotency ON task (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX task_parent ON task (parent_key) WHERE parent_key IS NOT NULL;

-- Apart from the task row, so that a transition or a heartbeat does not rewrite a large payload.
CREATE TABLE task_input (
    task_key     INTEGER PRIMARY KEY REFERENCES task (key),
    payload_json TEXT NOT NULL
) STRICT;

-- A row holds the claim: scope 'all' (name ''), 'agent' or 'kind'.
CREATE TABLE pause (
    scope TEXT NOT NULL CHECK (scope IN ('all', 'agent', 'kind')),
    name  TEXT NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

-- Append only. digest = SHA-256 of payload_json (NULL for an empty payload); chain = SHA-256 over the previous chain
-- value and this row, so that a changed, missing or inserted row shows.
CREATE TABLE event (
    id           INTEGER PRIMARY KEY,
    type         TEXT NOT NULL,
    task_key     INTEGER REFERENCES task (key),
    session_key  INTEGER REFERENCES session (key),
    state_from   TEXT,
    state_to     TEXT,
    token        INTEGER,
    created_at   INTEGER NOT NULL,
    digest       BLOB,
    chain        BLOB NOT NULL,
    payload_json TEXT
) STRICT;
CREATE INDEX event_task ON event (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX event_session ON event (session_key) WHERE session_key IS NOT NULL;

CREATE TABLE step (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    task_key      INTEGER NOT NULL REFERENCES task (key),
    seq           INTEGER NOT NULL,
    step_key      TEXT NOT NULL,
    kind          TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('intended', 'running', 'done', 'failed', 'unknown')),
    effect        TEXT CHECK (effect IN ('pure', 'idempotent', 'verifiable', 'unsafe')),
    tool          TEXT,
    request_hash  TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    evidence_json TEXT,
    request_json  TEXT,
    result_json   TEXT,
    UNIQUE (task_key, step_key),
    CHECK ((finished_at IS NOT NULL) = (state IN ('done', 'failed', 'unknown')))
) STRICT;

-- Parts of prompts (system text, tool lists), pinned by hash at turn start and shared by all turns that use them.
CREATE TABLE prompt_part (
    hash TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- turn = the fencing token of its turn's first attempt: the order in which turns began, which is the order of a
-- conversation. NULL while the turn waits.
CREATE TABLE message (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    session_key  INTEGER NOT NULL REFERENCES session (key),
    task_key     INTEGER REFERENCES task (key),
    turn         INTEGER,
    role         TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'tool', 'system')),
    tokens       INTEGER,
    created_at   INTEGER NOT NULL,
    text         TEXT NOT NULL,
    content_json TEXT NOT NULL
) STRICT;
CREATE INDEX message_session ON message (session_key);
CREATE INDEX message_task ON message (task_key) WHERE task_key IS NOT NULL;

CREATE TABLE audit_log (
    id             INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    subject        TEXT NOT NULL,
    capability     TEXT NOT NULL,
    resource       TEXT NOT NULL,
    argv_json      TEXT NOT NULL,
    verdict        TEXT NOT NULL CHECK (verdict IN ('allow', 'ask', 'deny')),
    reason         TEXT NOT NULL,
    policy_version TEXT NOT NULL,
    pinned_version TEXT,
    task_id        TEXT,
    chain          BLOB NOT NULL
) STRICT;

CREATE TABLE policy_versions (
    version    TEXT PRIMARY KEY,
    rules_json TEXT NOT NULL,
    loaded_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE skill_registry (
    name       TEXT PRIMARY KEY,
    hash       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'quarantined')),
    faults     INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW sessions AS
    SELECT id, agent_id, created_at, updated_at, ended_at FROM session;

CREATE VIEW tasks AS
    SELECT t.id, t.kind, s.id AS session_id, t.agent_id, t.state, t.priority, t.attempt, t.max_attempts, t.deaths,
           t.available_at, t.wait_reason, i.payload_json, t.result_json, t.error, t.error_code, t.progress_json,
           t.lease_owner, t.lease_token, t.lease_expires_at, t.cancel_requested, t.idempotency_key,
           p.id AS parent_task_id, t.policy_version, t.usage_json, t.timeout_ms, t.deadline_at,
           t.created_at, t.updated_at, t.finished_at
      FROM task t
      LEFT JOIN session s ON s.key = t.session_key
      LEFT JOIN task p ON p.key = t.parent_key
      LEFT JOIN task_input i ON i.task_key = t.key;

CREATE VIEW task_events AS
    SELECT e.id AS event_id, t.id AS task_id, s.id AS session_id, e.type AS event_type, e.state_from, e.state_to,
           t.id || '.' || e.token AS run_id, replace(t.id, '-', '') AS trace_id,
           coalesce(e.payload_json, '{}') AS payload_json, e.created_at
      FROM event e
      LEFT JOIN task t ON t.key = e.task_key
      LEFT JOIN session s ON s.key = e.session_key;

CREATE VIEW steps AS
    SELECT p.id, t.id AS task_id, p.seq, p.kind, p.step_key AS key, p.state, p.effect, p.tool, p.request_hash,
           p.result_json, p.created_at, p.finished_at
      FROM step p JOIN task t ON t.key = p.task_key;

CREATE VIEW messages AS
    SELECT m.id, s.id AS session_id, s.agent_id, m.role, m.content_json, m.text, t.id AS task_id, m.tokens,
           m.created_at
      FROM message m
      JOIN session s ON s.key = m.session_key
      LEFT JOIN task t ON t.key = m.task_key;

-- How many tasks of an agent are QUEUED, kept by triggers so that no writer can forget it and nobody has to count.
CREATE TABLE queue_depth (
    agent_id TEXT PRIMARY KEY,
    queued   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER task_enters AFTER INSERT ON task WHEN new.state = 'QUEUED' BEGIN
    INSERT INTO queue_depth VALUES (new.agent_id, 1) ON CONFLICT (agent_id) DO UPDATE SET queued = queued + 1;
END;
CREATE TRIGGER task_returns AFTER UPDATE OF state ON task WHEN new.state = 'QUEUED' AND old.state <> 'QUEUED' BEGIN
    UPDATE queue_depth SET queued = queued + 1 WHERE agent_id = new.agent_id;
END;
CREATE TRIGGER task_leaves AFTER UPDATE OF state ON task WHEN old.state = 'QUEUED' AND new.state <> 'QUEUED' BEGIN
    UPDATE queue_depth SET queued = queued - 1 WHERE agent_id = old.agent_id;
END;
