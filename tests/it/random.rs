//! The seed of a random test: printed when the test fails, and taken from the environment to repeat it.

use fastrand::Rng;

const VARIABLE: &str = "FIELDSYNC_TEST_SEED";

/// The seed in `FIELDSYNC_TEST_SEED`, or a new one. It is printed, and shown when the test fails.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var(VARIABLE).map_or_else(
        |_| fastrand::u64(..),
        |seed| {
            seed.parse()
                .unwrap_or_else(|_| panic!("{VARIABLE}={seed}: not a whole number"))
        },
    );
    println!("{VARIABLE}={seed} repeats the random choices of this test");
    seed
}

pub(crate) fn generator() -> Rng {
    Rng::with_seed(seed())
}
