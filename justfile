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

# kill -9 under load at random moments, then compare the books: `just drill-kill --rounds 200 --seed 7`
drill-kill *arguments:
    .venv/bin/python -m tests.system.drill_kill "$@"

# real work in a throw-away home, killed in the middle, shown in a table
demo:
    ./install.sh run demo
