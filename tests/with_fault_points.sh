#!/bin/sh
# What cargo calls in place of rustc for the crates of this workspace, when a test builds a program with fault points:
# RUSTC_WORKSPACE_WRAPPER=tests/with_fault_points.sh cargo build …
exec "$@" --cfg fieldsync_fault_points
