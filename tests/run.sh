#!/usr/bin/env bash
# Everything that is checked: formatting, lints, docs, all tests, those in a real browser included. Installs what is
# missing where it knows how (Debian and Ubuntu), and says what to install elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

need() { # need COMMAND DEBIAN_PACKAGE WHAT_FOR
    command -v "$1" >/dev/null || missing+=("$2") reasons+=("  $2: $3 (the command $1 is missing)")
}

step 'What must be installed'
missing=() reasons=()
need cc gcc 'compiles SQLite, and links'
need chromium chromium 'the tests of the two windows'
need chromedriver chromium-driver 'drives Chromium'
need node nodejs 'the tests of the scripts in the pages; 18 or later'
need redis-server redis-server 'the tests of several nodes'
need strace strace 'the tests of what the disk has when the power fails'
# Debian keeps these out of the path.
[ -x /usr/sbin/nginx ] || need nginx nginx-light 'the tests of nodes behind nginx'
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ||
    need postgres postgresql 'the tests of the PostgreSQL store'
if [ ${#missing[@]} -gt 0 ]; then
    printf '%s\n' "${reasons[@]}"
    if ! command -v apt-get >/dev/null; then
        echo 'This is no Debian: install the above by your system'\''s own means, then run this again.' >&2
        exit 1
    fi
    sudo=''
    [ "$(id -u)" = 0 ] || sudo='sudo'
    # gcc needs the C library's headers, which --no-install-recommends leaves out.
    [[ " ${missing[*]} " == *' gcc '* ]] && missing+=(libc6-dev)
    echo "Installing: ${missing[*]}"
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
command -v cargo >/dev/null || { echo 'Rust is missing: see https://rustup.rs' >&2; exit 1; }
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done

step 'Formatting'
cargo fmt --all --check

step 'Lints'
cargo clippy --locked --workspace --all-targets --features fieldsync-tests/services,fieldsync-postgres/services,fieldsync-bench/services -- -D warnings

step 'Documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

step 'Scripts of the pages'
node --test examples/two_windows/pages/*.test.mjs

step 'Tests'
cargo test --locked --workspace --features fieldsync-tests/services,fieldsync-postgres/services,fieldsync-bench/services
