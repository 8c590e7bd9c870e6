//! Says on standard error what takes long.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// From when on a person would ask.
const LONG: Duration = Duration::from_millis(500);

/// Does some work. If it takes long, says what it is: on a terminal with the seconds that have passed, elsewhere once.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let begun = Instant::now();
    tokio::select! {
        done = &mut work => return done,
        () = sleep(LONG) => {}
    }
    if !stderr().is_terminal() {
        eprintln!("{what} …");
        return work.await;
    }
    let mut seconds = 0;
    let done = loop {
        eprint!("\r{what} … {seconds} s");
        let _ = stderr().flush();
        seconds += 1;
        tokio::select! {
            done = &mut work => break done,
            () = sleep_until(begun + Duration::from_secs(seconds)) => {}
        }
    };
    // Erases the line (ECMA-48, EL).
    eprint!("\r\x1b[K");
    done
}
