"""Measurements anyone can repeat: goclaw beside its own ceiling and beside its peers, in one run on one disk.

`python -m benchmarks.kernel` measures the queue as a library. Nothing in here is shipped in the wheel.
"""
