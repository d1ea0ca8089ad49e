"""goclaw: a durable local kernel for AI agents.

One process, one SQLite file, one user. What was acknowledged survives ``kill -9`` at any instant, and no side
effect that must not be repeated is repeated. This package root holds the version and nothing else, so that
``goclaw --version`` has nothing to load; everything that works lives in the packages below it.
"""

__version__ = "0.1.0"
