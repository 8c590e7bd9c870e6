#!/usr/bin/env bash
# Runs every check: formatting, lints, documentation, and all tests, also those that need a browser, PostgreSQL, Redis and
# reverse proxies. Installs what is missing on Debian, and says what to install elsewhere.
#
#   tests/run.sh          everything
#   tests/run.sh quick    without the tests that need more than Rust and a C compiler; installs nothing but these
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
'') mode=full ;;
quick) mode=quick ;;
*)
    echo "usage: tests/run.sh [quick]" >&2
    exit 2
    ;;
esac

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

need() { # need COMMAND DEBIAN_PACKAGE PURPOSE
    command -v "$1" >/dev/null || missing+=("$2") reasons+=("  $2: $3 (the command $1 is missing)")
}

step 'Requirements'
command -v cargo >/dev/null || {
    echo 'Rust is missing: see https://rustup.rs' >&2
    exit 1
}
# Debian keeps the servers' programs in /usr/sbin, which is not in the PATH of ordinary users.
PATH=$PATH:/usr/sbin:/sbin
missing=() reasons=()
need cc gcc 'to compile SQLite, and to link'
if [ "$mode" = full ]; then
    need chromium chromium 'for the tests of the two windows'
    need chromedriver chromium-driver 'for the tests of the two windows'
    need node nodejs 'for the tests of the scripts in the pages; version 18 or later'
    need redis-server redis-server 'for the tests with several nodes'
    need strace strace 'for the tests of power failures'
    need pgbouncer pgbouncer 'for the tests of poolers'
    need nginx nginx-light 'for the tests of nodes behind a reverse proxy'
    need haproxy haproxy 'for the tests of nodes behind a reverse proxy'
    need caddy caddy 'for the tests of nodes behind a reverse proxy'
    /usr/bin/python3 -c 'import django' 2>/dev/null ||
        missing+=(python3-django) reasons+=('  python3-django: for the tests of the demo beside a Django app')
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ||
        need postgres postgresql 'for the tests of the PostgreSQL store'
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        echo 'One test mounts a small file system: run this as root, or as a user who may run sudo without a password.' >&2
        echo 'Or run the tests that need nothing but Rust: tests/run.sh quick' >&2
        exit 1
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    printf '%s\n' "${reasons[@]}"
    if ! command -v apt-get >/dev/null; then
        echo 'There is no apt-get: install the above with your system'\''s package manager, then run this again.' >&2
        exit 1
    fi
    # gcc needs the headers of the C library, which --no-install-recommends leaves out.
    [[ " ${missing[*]} " == *' gcc '* ]] && missing+=(libc6-dev)
    sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || {
            echo "There is no sudo: run as root: apt-get install ${missing[*]}" >&2
            exit 1
        }
        sudo=(sudo)
    fi
    echo "Installing: ${missing[*]}"
    ${sudo[@]+"${sudo[@]}"} apt-get update -q
    ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

features=()
if [ "$mode" = full ]; then
    features=(--features fieldsync-tests/services,fieldsync-postgres/services,fieldsync-bench/services)
fi

step 'Formatting'
cargo fmt --all --check

step 'Lints'
cargo clippy --locked --workspace --all-targets ${features[@]+"${features[@]}"} -- -D warnings

step 'Documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --all-features

if [ "$mode" = full ] || command -v node >/dev/null; then
    step 'Scripts of the pages'
    node --test examples/two_windows/pages/*.test.mjs crates/fieldsync-cli/page/*.test.mjs crates/fieldsync-cli/page/client/*.test.mjs
fi

step 'Tests'
# Most of them wait for something most of the time.
RUST_TEST_THREADS=$(($(nproc) * 2)) cargo test --locked --workspace ${features[@]+"${features[@]}"}
