//! What a run takes of the machine, where the system says so.

use std::fs;

/// The most memory that the process had so far, in MiB.
pub(super) fn rss_max_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1_024)
}

/// Seconds that this thread has computed: unlike wall time they don't grow when others use the machine. `None` where the system
/// doesn't tell.
#[must_use]
pub fn thread_cpu_s() -> Option<f64> {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns: u64 = schedule.split_whitespace().next()?.parse().ok()?;
    Some(ns as f64 / 1e9)
}
