#!/bin/sh
# Write the four lock files again. Needs uv (https://docs.astral.sh/uv); nothing else in the project does.
#
#   scripts/lock.sh             keep the versions that are locked, add and remove what pyproject.toml changed
#   scripts/lock.sh --upgrade   take the newest versions that pyproject.toml allows
#
# Runtime first; the others must agree with it, so what is tested is what is shipped.
set -eu
cd "$(dirname "$0")/.."

lock() {
    output=$1 what=$2
    shift 2
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --no-annotate --output-file "$output" "$@" >/dev/null
    {
        echo "# $what, exact and with hashes, for CPython 3.11 to 3.14 on Linux and macOS, x86-64 and arm64."
        echo "# Made by scripts/lock.sh from pyproject.toml; do not edit by hand."
        cat "$output"
    } >"$output.new"
    mv "$output.new" "$output"
}

lock requirements.lock "What goclaw runs with" "$@" pyproject.toml
lock requirements-build.lock "What builds the wheel" "$@" --constraint requirements.lock --group build
lock requirements-dev.lock "What goclaw runs and is tested with" "$@" --constraint requirements.lock \
    --constraint requirements-build.lock --group dev pyproject.toml
lock requirements-bench.lock "What goclaw is measured beside" "$@" --constraint requirements.lock --group bench
