"""The queue and the workers: tasks are taken in, claimed, carried out, settled and, after a crash, recovered.

`queue` is the only writer of task state; `pool` runs handlers; `recovery` judges what an unclean stop left behind.
At least once for tasks, at most once for effects that must not repeat (the journal sees to that).
"""
