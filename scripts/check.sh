#!/bin/sh
# The whole check, or the steps named: fmt lint types imports licences tests.
#
#   scripts/check.sh                    every step, also after one failed; the last line names those that failed
#   scripts/check.sh lint types         these two
#   scripts/check.sh tests -k lease     what follows "tests" goes to pytest
#
# Uses .venv when it is there (./install.sh test makes it), else the tools on PATH.
set -eu
cd "$(dirname "$0")/.."
[ ! -x .venv/bin/python ] || PATH=$PWD/.venv/bin:$PATH
export PATH

failed=
step() {
    printf '\n== %s\n' "$*" >&2
    "$@" || failed="$failed $name"
}

[ $# -gt 0 ] || set -- fmt lint types imports licences tests
while [ $# -gt 0 ]; do
    name=$1
    shift
    case $name in
        fmt) step ruff format --check . ;;
        lint) step ruff check . ;;
        types) step mypy ;;
        imports) step lint-imports --no-logo ;;
        licences) step python scripts/licences.py requirements.lock ;;
        tests)
            [ $# -gt 0 ] || set -- -n auto
            step python -m pytest "$@"
            set --
            ;;
        *)
            echo "check.sh: no step called $name (fmt lint types imports licences tests)" >&2
            exit 2
            ;;
    esac
done
[ -z "$failed" ] || { echo "check.sh: failed:$failed" >&2; exit 1; }
