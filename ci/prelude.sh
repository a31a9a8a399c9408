# What every command in ci/ starts with: failing in one line, timing a step, the cache folder, locks, system packages.
# Sourced, never run. Stays within bash 3.2, which is what macOS has. No step of any command is in here.
# shellcheck shell=bash

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command_name="ci/$(basename "$0")"

# Outside the repository, so that a fresh clone does not build an interpreter again.
cache_folder="${TURBOAPI_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/turboapi}"

# All that is said goes to stderr: the last line of stdout belongs to the commands whose result is a path.
say() { echo "$command_name: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

wrong_option() {
    say "$* (see $command_name --help)"
    exit 2
}

# Prints the comment at the top of the command, which is its help.
help() {
    awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$0"
    exit 0
}

# step NAME COMMAND...: runs it and says how long it took, failed or not.
step() {
    local name=$1 started=$SECONDS status=0
    shift
    say "$name ..."
    # Not "$@" || status=$?: that would turn off `set -e` inside a function given as the command.
    set +e
    (
        set -e
        "$@"
    )
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        say "$name: done in $((SECONDS - started)) s"
    else
        say "$name: FAILED after $((SECONDS - started)) s (status $status)"
        exit "$status"
    fi
}

# limited SECONDS COMMAND...: macOS has no `timeout`; there the command runs without a limit.
limited() {
    local seconds=$1
    shift
    if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi
}

# lock NAME: held until the command and its children have ended, so that what a killed build left running does not meet the
# next one. Children that may leave a service behind (apt, a compiler cache) get it closed: 9>&-.
# macOS has no `flock`: there two commands at once are not guarded.
lock() {
    mkdir -p "$cache_folder"
    command -v flock >/dev/null || return 0
    exec 9>"$cache_folder/$1.lock"
    flock --nonblock 9 && return 0
    say "another command holds $cache_folder/$1.lock, waiting for it"
    flock 9
}

# hash_of: eight hexadecimal digits that name what stands on stdin.
hash_of() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-8
}

# need_packages PACKAGE...: installs the Debian packages that are missing. On other systems it does nothing: what needed
# them then fails with its own message.
need_packages() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || return 0
    local package missing="" root=""
    for package in "$@"; do
        case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
            installed) ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "missing system packages, and neither root nor sudo to install them; have somebody run: apt-get install$missing"
        root=sudo
    fi
    say "installing system packages:$missing"
    local log="$cache_folder/apt.log"
    mkdir -p "$cache_folder"
    # A second apt (unattended upgrades on a fresh cloud machine) holds the lock for a while: wait for it.
    # shellcheck disable=SC2086 # the list is meant to be split
    if ! { $root apt-get update && $root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=120 $missing; } >"$log" 2>&1 9>&-; then
        tail -n 15 "$log" >&2
        fail "apt-get could not install$missing; the whole log is $log"
    fi
}

# need_rust: cargo new enough for the crates we use (jiter 0.18 wants Rust 1.88), and a C compiler, which Rust links with.
need_rust() {
    # A shell that is not a login shell often lacks rustup's folder.
    command -v cargo >/dev/null || PATH="${CARGO_HOME:-${HOME:-}/.cargo}/bin:$PATH"
    local version
    version=$(cd "$repository" && cargo --version 2>/dev/null | awk '{ print $2 }') || version=""
    [ -n "$version" ] || fail "no working cargo found; install Rust 1.88 or later from https://rustup.rs and run this again"
    case "$version" in
        1.[0-9].* | 1.[0-7][0-9].* | 1.8[0-7].*) fail "cargo is $version, 1.88 is needed: run 'rustup update stable'" ;;
    esac
    command -v cc >/dev/null || need_packages gcc libc6-dev
    command -v cc >/dev/null || fail "no C compiler found, Rust needs one to link: install gcc or clang"
}
