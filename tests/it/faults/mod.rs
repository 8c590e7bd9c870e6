//! Faults made on purpose: the server killed, the disk full, the lock taken, the backup put back. `docs/faults.md` says
//! what each shows, and what can't be shown.

mod database_file;
mod load;

mod kill;
mod points;
