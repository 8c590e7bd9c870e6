//! Faults made on purpose: the server killed, the disk full, the lock taken, the backup put back. `docs/faults.md` says
//! what each shows, and what can't be shown.

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
