#!/bin/sh
# goclaw from this checkout. Four commands:
#
#   ./install.sh install            a private environment, the goclaw in it, and a link in ~/.local/bin
#   ./install.sh run [ARGUMENTS]    the same goclaw, with arguments; without any: goclaw serve
#   ./install.sh test               every check of the project (the environment for it is .venv in the checkout)
#   ./install.sh uninstall          removes what the commands above made; never your data in GOCLAW_HOME
#
# INSTALL_DIR   where the private environment lives   (default: ~/.local/share/goclaw)
# PYTHON        the interpreter to use                 (default: python3, else python3.14 ... python3.11)
#
# Packages come from the package registry that pip is set up for, at the exact versions and hashes of
# requirements.lock, as ready-made wheels: no compiler is needed. A second call installs nothing unless the
# sources or a lock changed.
set -eu

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
: "${HOME:?HOME is not set}"
install_dir=${INSTALL_DIR:-$HOME/.local/share/goclaw}
case $install_dir in /*) ;; *) install_dir=$PWD/$install_dir ;; esac
venv=$install_dir/venv
build_tools=$install_dir/build-tools
dev_venv=$checkout/.venv
link=$HOME/.local/bin/goclaw

say() { printf '%s\n' "$*" >&2; }
fail() { say "install.sh: $1"; shift; for hint in "$@"; do say "  $hint"; done; exit 1; }
usage() { sed -n '2,/^set -eu/ { /^set -eu/d; s/^# \{0,1\}//p; }' "$0"; }

# --- what must be there ----------------------------------------------------------------------------------------

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 to 3.14."
        python=$PYTHON
        return
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        supported "$python" && return
    done
    fail "no Python 3.11 to 3.14 on PATH (python3 is: $(command -v python3 >/dev/null && python3 --version 2>&1 || echo missing))." \
        "Debian 12 or newer, Ubuntu 24.04 or newer:  sudo apt install python3 python3-venv" \
        "Fedora:  sudo dnf install python3        macOS:  brew install python@3.13" \
        "Or name one yourself:  PYTHON=/path/to/python3.11 ./install.sh ..."
}

need_venv_module() {
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
    minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$python cannot make virtual environments: its venv or ensurepip module is missing." \
        "Debian, Ubuntu:  sudo apt install python$minor-venv"
}

# --- environments ----------------------------------------------------------------------------------------------

stamp_of() { (cd "$checkout" && find "$@" -type f ! -name '*.pyc' -exec cksum {} + | LC_ALL=C sort | cksum); }
is_stamped() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

pip_install() {
    interpreter=$1
    shift
    "$interpreter" -m pip --disable-pip-version-check --no-input install --quiet "$@" || fail \
        "pip could not install the packages (its own words are above)." \
        "No network? Behind a proxy set HTTPS_PROXY; for a mirror set PIP_INDEX_URL."
}

# make_venv DIR LOCK: an environment with exactly what the lock names, unless it is there already.
make_venv() {
    stamp=$(stamp_of "$2")
    is_stamped "$1/goclaw-lock" "$stamp" && "$1/bin/python" -c '' 2>/dev/null && return
    if [ -e "$1" ] && [ ! -e "$1/goclaw-lock" ]; then
        fail "$1 exists and this script did not make it." "Move it away, or remove it yourself, and call again."
    fi
    find_python
    need_venv_module
    say "making $1 with $("$python" --version) (about half a minute, once)"
    rm -rf "$1"
    "$python" -m venv "$1"
    echo unfinished >"$1/goclaw-lock"
    pip_install "$1/bin/python" --require-hashes --only-binary :all: -r "$checkout/$2"
    printf '%s\n' "$stamp" >"$1/goclaw-lock"
}

# The wheel is built by hatchling from its own lock, outside the environment goclaw runs in.
install_wheel() {
    stamp=$(stamp_of goclaw migrations pyproject.toml README.md LICENSE)
    is_stamped "$venv/goclaw-wheel" "$stamp" && return
    tools_stamp=$(stamp_of requirements-build.lock)
    if ! is_stamped "$build_tools/goclaw-lock" "$tools_stamp"; then
        rm -rf "$build_tools"
        mkdir "$build_tools"
        echo unfinished >"$build_tools/goclaw-lock"
        pip_install "$venv/bin/python" --require-hashes --only-binary :all: --target "$build_tools" \
            -r "$checkout/requirements-build.lock"
        printf '%s\n' "$tools_stamp" >"$build_tools/goclaw-lock"
    fi
    say "installing goclaw from $checkout"
    wheels=$(mktemp -d)
    (cd "$checkout" && PYTHONPATH=$build_tools "$venv/bin/python" -m hatchling build -t wheel -d "$wheels") \
        >"$wheels/log" 2>&1 || { cat "$wheels/log" >&2; fail "the wheel could not be built (see above)."; }
    pip_install "$venv/bin/python" --no-deps --no-index --force-reinstall "$wheels"/goclaw-*.whl
    rm -rf "$wheels"
    printf '%s\n' "$stamp" >"$venv/goclaw-wheel"
}

# Two calls at once wait for each other, where the system has flock.
ensure_installed() {
    mkdir -p "$install_dir"
    if command -v flock >/dev/null; then
        exec 9>"$install_dir/lock"
        flock 9
    fi
    make_venv "$venv" requirements.lock
    install_wheel
    exec 9>&-
}

# --- commands --------------------------------------------------------------------------------------------------

cmd_install() {
    ensure_installed
    mkdir -p "$(dirname "$link")"
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        say "$link is a file that is not ours: left alone. Start goclaw as $venv/bin/goclaw"
        return
    fi
    ln -sfn "$venv/bin/goclaw" "$link"
    say "installed: $link -> $venv/bin/goclaw"
    case ":$PATH:" in
        *":$(dirname "$link"):"*) say "try:  goclaw demo" ;;
        *) say "$(dirname "$link") is not on PATH. Add it, or start goclaw as $link" ;;
    esac
}

cmd_run() {
    ensure_installed
    [ $# -gt 0 ] || set -- serve
    exec "$venv/bin/goclaw" "$@"
}

cmd_test() {
    make_venv "$dev_venv" requirements-dev.lock
    stamp=$(stamp_of pyproject.toml)
    if ! is_stamped "$dev_venv/goclaw-editable" "$stamp"; then
        pip_install "$dev_venv/bin/python" --no-deps --no-build-isolation --editable "$checkout"
        printf '%s\n' "$stamp" >"$dev_venv/goclaw-editable"
    fi
    exec "$checkout/scripts/check.sh" "$@"
}

cmd_uninstall() {
    home=${GOCLAW_HOME:-$HOME/.goclaw}
    if [ -e "$home/run/gateway.json" ] && [ -x "$venv/bin/goclaw" ]; then
        say "a daemon may be running in $home; stopping it"
        "$venv/bin/goclaw" daemon stop >/dev/null 2>&1 || true
    fi
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$venv/bin/goclaw" ]; then
        rm "$link"
        say "removed $link"
    fi
    for made in "$venv" "$build_tools" "$dev_venv"; do
        [ -e "$made/goclaw-lock" ] || continue
        rm -rf "$made"
        say "removed $made"
    done
    rm -f "$install_dir/lock"
    rmdir "$install_dir" 2>/dev/null || true
    say "your data in $home is untouched"
}

case ${1:-} in
    install | run | test | uninstall)
        command=$1
        shift
        "cmd_$command" "$@"
        ;;
    -h | --help | help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
