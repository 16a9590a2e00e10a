# What the scripts share: telling, installing what the machine lacks, and the project's environment. Sourced, not run.
#
# Nothing here asks a question or needs a terminal. What root may install is installed and said; what an ordinary user
# without sudo cannot install is named with the command that does it. Every function may be called again.
# shellcheck shell=bash

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$REPO"

# The environment of the project. uv reads this variable too.
export UV_PROJECT_ENVIRONMENT=${UV_PROJECT_ENVIRONMENT:-.venv}
# An active environment of something else is not the one meant.
unset VIRTUAL_ENV CONDA_PREFIX

say() { printf '==> %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# quietly COMMAND...: its output only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" -eq 0 ] || cat "$log" >&2
    rm -f "$log"
    return "$status"
}

# as_root COMMAND...: as root, or through a sudo that asks for no password; fails when there is neither.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
    done
}

# packages NAME...: installs those of these Debian packages that are missing. Returns 1, having said what to do, if it cannot.
packages() {
    local missing
    if ! command -v apt-get >/dev/null; then
        warn "this is not Debian or Ubuntu; see to it that these are installed: $*"
        return 1
    fi
    read -ra missing <<<"$(missing_packages "$@")"
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! as_root true; then
        warn "not installed, and you are neither root nor have sudo without a password: ${missing[*]}. As root: apt-get install ${missing[*]}"
        return 1
    fi
    say "Installing Debian packages: ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    # The lists may be missing or old: refresh them when the packages cannot be had as it is.
    quiet_try as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" && return 0
    quietly as_root "${apt[@]}" update || warn "the package lists could not be refreshed"
    if ! quietly as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; then
        warn "could not be installed: ${missing[*]}"
        return 1
    fi
}

# postgresql: Debian's package of the database server, for tests that run a private one. Its installation would make and start a
# cluster `main` that nobody here wants; a setting of postgresql-common, made before, prevents that. A machine that has a
# PostgreSQL already is left as it is.
postgresql() {
    local setting=/etc/postgresql-common/createcluster.conf
    [ -n "$(missing_packages postgresql)" ] || return 0
    if compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then return 0; fi
    # postgresql-common brings the file; written before it, the package's installation would ask what to do about the difference.
    if as_root true && packages postgresql-common && ! grep -q '^create_main_cluster' "$setting"; then
        say "Installing PostgreSQL without a running server: create_main_cluster = false in $setting"
        as_root sh -c "echo 'create_main_cluster = false' >>'$setting'" || return 1
    fi
    packages postgresql
}

# without_starting PACKAGE...: installs packages that bring a service, which is neither started nor enabled: tests run a private
# one. A machine that has them already is left as it is.
without_starting() {
    local missing package policy=/usr/sbin/policy-rc.d made='' status=0
    read -ra missing <<<"$(missing_packages "$@")"
    [ ${#missing[@]} -gt 0 ] || return 0
    if as_root true && [ ! -e "$policy" ]; then
        # Debian's way to say that installing a package starts nothing.
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >'$policy' && chmod 755 '$policy'" || return 1
        made=1
    fi
    packages "${missing[@]}" || status=1
    [ -z "$made" ] || as_root rm -f "$policy"
    for package in "${missing[@]}"; do
        package=${package/openssh-server/ssh}
        [ "$status" -ne 0 ] || quiet_try as_root systemctl disable "$package" || true
    done
    return "$status"
}

quiet_try() { "$@" >/dev/null 2>&1 </dev/null; }

# is_python PATH MINOR: PATH is a CPython 3 of at least that minor version that runs.
is_python() {
    quiet_try "$1" -I -c "import sys; sys.exit(sys.version_info < (3, $2))"
}

# find_python MINOR: prints the path of a Python of at least 3.MINOR, the system's first; fails without one.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        candidate=$(command -v "$candidate") || continue
        if is_python "$candidate" "$1"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# find_uv: sets UV to a uv that runs: the one on the path, or our own in .tooling, installed there with pip.
find_uv() {
    UV=$(command -v uv || true)
    if [ -n "$UV" ] && quiet_try "$UV" --version; then return; fi
    UV=$REPO/.tooling/bin/uv
    if quiet_try "$UV" --version; then return; fi
    local python
    python=$(find_python 8) || { packages python3 && python=$(find_python 8); } ||
        die "there is no Python 3 on this machine. Install one: apt-get install python3"
    say "Installing uv in .tooling"
    rm -rf .tooling
    # Debian's python3 can make environments only with python3-venv.
    quiet_try "$python" -m venv .tooling || { packages python3-venv && rm -rf .tooling && quietly "$python" -m venv .tooling; } ||
        die "$python cannot make a virtual environment. Install python3-venv (as root: apt-get install python3-venv), or uv."
    quietly .tooling/bin/python -m pip install --quiet --disable-pip-version-check uv ||
        die "uv could not be installed from the package index; is there a network?"
    quiet_try "$UV" --version || die "uv was installed in .tooling but does not run"
}

# sync_environment ARGUMENT...: the project's environment as uv.lock says. An environment that works keeps its Python.
sync_environment() {
    local python
    if is_python "$UV_PROJECT_ENVIRONMENT/bin/python" 11; then
        :
    elif python=$(find_python 11); then
        # The one that is here: a download may not be possible. The system's: other users can run it.
        export UV_PYTHON=$python
        say "Making $UV_PROJECT_ENVIRONMENT with $python"
    else
        say "There is no Python 3.11 or newer here; uv gets one"
    fi
    # Byte code now, once: where PYTHONDONTWRITEBYTECODE is set every command would compile all of its modules anew.
    quietly "$UV" sync --frozen --compile-bytecode "$@" || die "the environment could not be made (uv sync --frozen $*)"
    unset UV_PYTHON
    export ENV_BIN
    ENV_BIN=$(cd "$UV_PROJECT_ENVIRONMENT/bin" && pwd)
    quietly "$ENV_BIN/python" -m compileall -q src || warn "the byte code of src could not be written"
}

# A second environment, for tests that run zygo as an ordinary user while they themselves run as root: the repository, root's
# home, uv's cache and .venv's interpreter may all be closed to others, so this one is made from Debian's own Python, holds
# a copy of the project (not a link to it) and lies where every user can read. Exports TESTS_USER_PYTHON, its python
# (its zygo command is beside it; run it with: setpriv --reuid UID --regid GID --clear-groups). The name has no ZYGO_ before
# it, since the tests clear all such variables. Does nothing when not root, where .venv serves; warns when there is no such Python.
user_environment() {
    [ "$(id -u)" -eq 0 ] || return 0
    local folder=/var/lib/zygo-tests
    if ! is_python /usr/bin/python3 11; then
        warn "/usr/bin/python3 is missing or older than 3.11: tests as an ordinary user are skipped"
        return 0
    fi
    is_python "$folder/venv/bin/python" 11 || say "Making $folder/venv, for tests as an ordinary user"
    install -d -m 755 "$folder"
    # The subshell keeps the umask; copies, since a hard link would carry the permissions of uv's cache.
    (
        umask 022
        export UV_PROJECT_ENVIRONMENT=$folder/venv UV_PYTHON=/usr/bin/python3 UV_LINK_MODE=copy
        quietly "$UV" sync --frozen --compile-bytecode --no-dev --no-editable --reinstall-package zygo
    ) || die "$folder/venv could not be made"
    export TESTS_USER_PYTHON=$folder/venv/bin/python
}
