//! Faults: a killed server, a full disk, a lock of another process, a restored backup. `docs/faults.md` says what each test
//! shows, and what none of them can show.

pub(crate) mod clients;
mod database;
pub(crate) mod load;

mod frozen;
#[cfg(feature = "services")]
mod full_disk;
mod kill;
mod locked;
#[cfg(feature = "services")]
mod nodes;
mod points;
#[cfg(feature = "services")]
mod postgres;
#[cfg(feature = "services")]
mod power;
mod restored;
mod stop;
