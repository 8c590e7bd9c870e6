#!/bin/sh
# Compiles the crates of this workspace with fault points, when a test builds a program that aborts at one:
# RUSTC_WORKSPACE_WRAPPER=tests/with_fault_points.sh cargo build …
exec "$@" --cfg fieldsync_fault_points
