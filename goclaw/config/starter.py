"""The files a first run writes into an empty home."""

from __future__ import annotations

SOUL = """\
<!-- Who your default agent is. Its model reads this before every turn, without the comments.
     goclaw reads the file again whenever you save it. -->
You are goclaw, an assistant that runs on your user's own machine. You work carefully and say plainly what
you did. Use your tools when they help, and read what they return before you go on. When a tool is refused
or fails, say so and do not pretend otherwise. When you do not know something, say that you do not know.
"""

AGENTS_NOTES = """\
<!-- Conventions for every agent of this home: names, folders, habits. Their models read this before every
     turn, without the comments. goclaw reads the file again whenever you save it.

     An example:
     Reports go into workspace/reports/ as Markdown, one file for each day.
-->
"""

CONFIG = """\
# Settings of goclaw. Everything here is optional; what is not set has the default shown.
# The whole list, with types: docs/configuration.md. Check this file with `goclaw config check`.
# goclaw reads it again whenever you save it; with a mistake in it the last good one stays in force.

# bind_addr: 127.0.0.1:18789        # needs a restart
# log_level: info                   # debug | info | warning | error
# worker_count: 16                  # tasks of an agent that run at once; needs a restart
# task_timeout_seconds: 600         # needs a restart
# drain_timeout_seconds: 5          # needs a restart

# Models. Without this, the first key in the environment decides (ANTHROPIC_API_KEY, OPENAI_API_KEY,
# OPENROUTER_API_KEY); without any key goclaw runs offline and only takes /tool directives.
# A key belongs into the environment or into .env beside this file; ${NAME} refers to it.
# providers:
#   claude:
#     kind: anthropic
#     api_key: ${ANTHROPIC_API_KEY}
#     model: claude-sonnet-5
#   local:
#     kind: openai
#     base_url: http://127.0.0.1:11434/v1
#     model: qwen3
# provider_chain: [claude, local]   # tried in this order

# Agents besides the default one.
# agents:
#   researcher:
#     display_name: Researcher
#     soul: You look things up and name your sources.
#     tools: [read_file, grep, glob]

# How many tasks with one concurrency_key run at once (1 where a name is not listed), and how many tasks of a
# kind an agent may start in a minute. docs/queue.md tells more.
# concurrency: {deploy: 1, crawl: 4}
# starts_per_minute: {chat: 30}

# Work that comes back. Each has one of cron, every and at.
# schedules:
#   - id: morning
#     cron: "0 8 * * 1-5"
#     zone: Europe/Berlin
#     payload: {content: Summarise what is new in the workspace.}

# How long what is kept; `forever` keeps it. docs/data.md says what goes together.
# retention:
#   tasks: {days: 90, rows: 1000000}
#   sessions: {days: forever}
"""
"""A config.yaml in which everything is a comment: it says what could be set and sets nothing."""
