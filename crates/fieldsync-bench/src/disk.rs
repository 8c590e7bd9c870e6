//! The disk that is measured: its latency, and a check that it is a disk.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::wait::Result;

const SYNCS: usize = 100;

/// Prints the time that `fdatasync` takes in a folder. A folder in memory is an error, unless `any` file system will do.
pub(crate) fn describe(folder: &Path, any: bool) -> Result {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("--folder {}: {error}", folder.display()))?;
    let kind = file_system(folder)?;
    if matches!(kind.as_str(), "tmpfs" | "ramfs") && !any {
        let folder = folder.display();
        return Err(format!(
            "--folder {folder}: the file system is in memory ({kind}); name a folder on a disk"
        )
        .into());
    }
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_micros();
    println!(
        "disk: {kind}, fdatasync of 4 KiB takes {} µs (median of {SYNCS}; p90 {} µs)\n",
        micros(times[SYNCS / 2]),
        micros(times[SYNCS * 9 / 10])
    );
    Ok(())
}

/// The file system of a folder: that of the longest mount point above it.
fn file_system(folder: &Path) -> Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let mounts = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = Path::new(before.split(' ').nth(4)?);
        folder
            .starts_with(point)
            .then_some((point.as_os_str().len(), after.split(' ').next()?))
    });
    // Of two mounts on one point, the later one hides the first.
    let kind = mounts
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind.to_owned());
    Ok(kind.unwrap_or_else(|| "unknown".into()))
}
