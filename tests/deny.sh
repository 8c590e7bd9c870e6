#!/usr/bin/env bash
# Checks the licences, versions and sources of all dependencies by the rules in deny.toml. It is not part of
# tests/run.sh, because installing cargo-deny compiles for several minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
# No advisories: the advisory database comes from the network.
exec cargo deny --locked check licenses bans sources
