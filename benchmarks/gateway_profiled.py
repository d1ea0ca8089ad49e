"""`goclaw` under cProfile, for the bench: the figures of the loop's thread are written when it ends."""

from __future__ import annotations

import cProfile
import os
import sys

from benchmarks.gateway_place import PROFILE
from goclaw.__main__ import main

if __name__ == "__main__":
    profile = cProfile.Profile()
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(os.environ[PROFILE])
        sys.stderr.flush()
