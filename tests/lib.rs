//! The tests are in `it`, one binary. `README.md` in this folder describes them.
