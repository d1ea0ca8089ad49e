"""What holds in every committed state of the store, whatever was done and wherever it was torn: one query each.

A query answers with the rows that break its law. Together with `goclaw verify`, which asks whether the events explain
the rows, this is what the stateful test and the small worlds ask after every step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from goclaw.store.verify import verify

_NAMES = """
SELECT * FROM (
    SELECT concurrency_key AS name,
           coalesce((SELECT most FROM concurrency_limit WHERE name = concurrency_key), 1) AS most,
           sum(wait_reason IS NULL) AS open, sum(wait_reason IS 'concurrency') AS waiting,
           sum(wait_reason IS NULL AND state = 'QUEUED' AND deaths < 2) AS free
      FROM task WHERE concurrency_key IS NOT NULL AND finished_at IS NULL GROUP BY concurrency_key)
"""
LAWS: Mapping[str, str] = {
    "the kept depth is the number of queued tasks": """
        SELECT * FROM (
            SELECT agent_id, kind, sum(queued) AS off FROM (
                SELECT agent_id, kind, queued FROM queue_depth
                UNION ALL SELECT agent_id, kind, -1 FROM task WHERE state = 'QUEUED')
            GROUP BY agent_id, kind)
        WHERE off <> 0""",
    "no more of a name may start than its limit allows": f"{_NAMES} WHERE open > most AND free > 0",
    "nobody waits for a name that has room": f"{_NAMES} WHERE open < most AND waiting > 0",
    "of a name the first in claim order may start": """
        SELECT open.key, waiting.key FROM task open JOIN task waiting USING (concurrency_key)
         WHERE open.state = 'QUEUED' AND open.wait_reason IS NULL AND open.deaths < 2
           AND waiting.state = 'QUEUED' AND waiting.wait_reason = 'concurrency'
           AND (waiting.rank, waiting.key) < (open.rank, open.key)""",
    "who has no name does not wait for one": """
        SELECT key FROM task WHERE wait_reason = 'concurrency' AND concurrency_key IS NULL""",
    "a session lets its first one go and nobody else": """
        SELECT key FROM (
            SELECT *, row_number() OVER (PARTITION BY session_key ORDER BY place) AS nth FROM task
             WHERE place IS NOT NULL AND finished_at IS NULL)
         WHERE (nth = 1 AND wait_reason IS 'session')
            OR (nth > 1 AND (state <> 'QUEUED' OR wait_reason IS NOT 'session') AND wait_reason IS NOT 'delay')""",
    "a turn that waits for nothing but others has a place": """
        SELECT key FROM task
         WHERE kind = 'chat' AND finished_at IS NULL AND place IS NULL AND wait_reason IS NOT 'delay'""",
    "of a unique key one has not ended": """
        SELECT unique_key FROM task WHERE unique_key IS NOT NULL AND finished_at IS NULL
         GROUP BY unique_key HAVING count(*) > 1""",
    "who was running at two unclean stops runs alone": """
        SELECT max(deaths) FROM task WHERE lease_token IS NOT NULL HAVING count(*) > 1 AND max(deaths) >= 2""",
    "the third death is the last": """
        SELECT key FROM task WHERE deaths > 3 OR (deaths = 3 AND state <> 'DEAD_LETTER')""",
    "who waits has an attempt left, and nobody has more than allowed": """
        SELECT key FROM task WHERE attempt < 0 OR attempt > max_attempts
            OR (attempt = max_attempts AND finished_at IS NULL AND lease_token IS NULL)""",
    "a claim and its start are one commit": "SELECT key FROM task WHERE state = 'CLAIMED'",
    "who was asked to cancel does not wait": """
        SELECT key FROM task WHERE cancel_requested AND finished_at IS NULL AND lease_token IS NULL""",
    "a timer knows of every instant that matters and of no other": """
        SELECT key FROM (
            SELECT key, wake_at, CASE
                WHEN finished_at IS NOT NULL OR cancel_requested THEN NULL
                WHEN state = 'RETRY_WAIT' OR wait_reason = 'delay'
                THEN min(available_at, coalesce(deadline_at, available_at))
                ELSE deadline_at END AS due FROM task)
         WHERE wake_at IS NOT due""",
    "a fencing token is the id of its claim's event": """
        SELECT id FROM event WHERE type = 'task.claimed' AND token <> id""",
    "every task has its input": "SELECT key FROM task WHERE key NOT IN (SELECT task_key FROM task_input)",
}


def broken(conn: sqlite3.Connection, lanes: Mapping[str, int]) -> list[str]:
    """The laws that do not hold, with the rows that break them. `lanes`: how many of an agent may run at once."""
    rows = {law: [tuple(row) for row in conn.execute(sql)] for law, sql in LAWS.items()}
    found = [f"{law}: {breaking}" for law, breaking in rows.items() if breaking]
    held = conn.execute("SELECT agent_id, count(*) FROM task WHERE lease_token IS NOT NULL GROUP BY agent_id")
    return found + [f"{agent} runs {count} in {lanes[agent]} lanes" for agent, count in held if count > lanes[agent]]


def unexplained(conn: sqlite3.Connection) -> list[str]:
    """What the events do not explain, and what is wrong with their chain."""
    return [f"{one.table} {one.row}: {one.what}" for one in verify(conn).findings]
