-- What is no longer there: ranges of ids that retention or a purge took out of a chained log, and purged sessions.
--
-- chain: the chain value of the row `last_id`, so that the log is still verified over the hole. Ranges of one log neither
-- overlap nor touch. Every change is told in audit_log in the same commit.

CREATE TABLE removed_range (
    log        TEXT NOT NULL CHECK (log IN ('event', 'audit')),
    first_id   INTEGER NOT NULL CHECK (first_id >= 1),
    last_id    INTEGER NOT NULL,
    chain      BLOB NOT NULL,
    removed_at INTEGER NOT NULL,
    PRIMARY KEY (log, first_id),
    CHECK (last_id >= first_id)
) STRICT, WITHOUT ROWID;

-- A session whose content was purged: its events may lack a payload that they have a digest of. scrubbed_at: when the
-- file was rewritten, so that no freed byte holds the content any more; NULL while that is still to be done.
CREATE TABLE purge (
    session_key INTEGER PRIMARY KEY REFERENCES session (key),
    purged_at   INTEGER NOT NULL,
    scrubbed_at INTEGER
) STRICT;

-- The tasks of one session. Tasks of no session do not pay for it.
CREATE INDEX task_of_session ON task (session_key) WHERE session_key IS NOT NULL;
