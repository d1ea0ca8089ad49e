# The index of habits. `just` alone lists them; without just, each line is short enough to type.

set positional-arguments

[private]
default:
    @just --list --unsorted

# make the development environment (.venv) and run the whole check, as CI does
setup:
    ./install.sh test

# build the wheel and the source archive into dist/
build:
    .venv/bin/python -m hatchling build

# run goclaw from this checkout: `just run ask hello`; without arguments, serve
run *arguments:
    ./install.sh run "$@"

# serve in the foreground, never a terminal screen
run-headless *arguments:
    GOCLAW_NO_TUI=1 ./install.sh run serve "$@"

# the tests; arguments go to pytest: `just test -k lease`
test *arguments:
    scripts/check.sh tests "$@"

# everything that must hold before a commit: fmt-check lint types imports licences tests
check:
    scripts/check.sh

# put the sources into their format
fmt:
    .venv/bin/ruff format .
    .venv/bin/ruff check --fix-only --quiet .

# is the format right?
fmt-check:
    scripts/check.sh fmt

# ruff's rules
lint:
    scripts/check.sh lint

# mypy, strict
types:
    scripts/check.sh types

# the import contracts of pyproject.toml
imports:
    scripts/check.sh imports

# may we ship what we ship?
licences:
    scripts/check.sh licences

# write the lock files again (needs uv); `just lock --upgrade` takes newer versions
lock *arguments:
    scripts/lock.sh "$@"

# cold start, --version and idle memory against their budgets
bench *arguments:
    ./install.sh run bench "$@"

# the queue as a library beside its ceiling and its peers (docs/performance.md): `just bench-kernel --short`
bench-kernel *arguments:
    .venv/bin/python -m benchmarks.kernel "$@"

# the daemon over its sockets: submits, replay, fan-out, idle connections
bench-gateway *arguments:
    .venv/bin/python -m benchmarks.gateway "$@"

# kill -9, at random under load or (--points) at every write and sync: `just drill-kill --rounds 200 --seed 7`
drill-kill *arguments:
    .venv/bin/python -m tests.system.drill_kill "$@"

# power cuts on a disk that forgets what was not synced: `just drill-powercut --rounds 100`
drill-powercut *arguments:
    .venv/bin/python -m tests.system.drill_powercut "$@"

# a disk that fails at its Nth call, and one that is full: `just drill-io --rounds 40`
drill-io *arguments:
    .venv/bin/python -m tests.system.drill_io "$@"

# clocks that jump by 25 hours, machines that sleep: `just drill-clock --rounds 40`
drill-clock *arguments:
    .venv/bin/python -m tests.system.drill_clock "$@"

# mixed load for minutes to hours; nothing may grow: `just drill-soak --minutes 60`
drill-soak *arguments:
    .venv/bin/python -m tests.system.drill_soak "$@"

# two daemons on one home, workers that come back from the dead: `just drill-race --rounds 40`
drill-race *arguments:
    .venv/bin/python -m tests.system.drill_race "$@"

# every state of small queues, with a crash between any two operations and inside each: `just check-model "two turns"`
check-model *arguments:
    .venv/bin/python -m tests.unit.kernel.small_search "$@"

# real work in a throw-away home, killed in the middle, shown in a table
demo:
    ./install.sh run demo
