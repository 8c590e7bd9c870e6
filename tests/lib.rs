//! The tests are in `it`: one binary, each case run on every adapter and store.
