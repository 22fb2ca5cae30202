//! What a fault file does to a disk and to clocks, and what the node tells of it.

use quorumor_wal::Disk;

use super::*;

/// Replaces the file and waits until the node says that it has taken it in.
fn set(path: &Path, serial: u64, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, format!("serial = {serial}\n{text}")).unwrap();
    std::fs::rename(&fresh, path).unwrap();
    until(path, "serial", serial);
}

fn told(path: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(path.with_extension("status")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    u64::try_from(table[name].as_integer().unwrap()).unwrap()
}

fn until(path: &Path, name: &str, wanted: u64) {
    let began = Instant::now();
    while told(path, name) < wanted {
        assert!(began.elapsed() < Duration::from_secs(20), "{name}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_disk_is_slow_full_and_broken_while_the_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faults.toml");
    let faults = Faults::follow(&path).unwrap();
    let mut disk = NodeDisk::open(&dir.path().join("disk"), Some(faults)).unwrap();
    disk.create("a").unwrap();
    disk.write_at("a", 0, b"12345678").unwrap();

    set(&path, 1, "sync-delay-us = 60000");
    let began = Instant::now();
    disk.sync("a").unwrap();
    assert!(began.elapsed() >= Duration::from_millis(60));
    until(&path, "slow-syncs", 1);

    set(&path, 2, "disk-full = true");
    assert_eq!(disk.free_bytes().unwrap(), 0);
    let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::StorageFull;
    assert!(full(disk.create("b")) && full(disk.write_at("a", 7, b"89")));
    disk.write_at("a", 0, b"87654321").unwrap();
    until(&path, "full-answers", 3);

    set(&path, 3, "sync-error = true");
    disk.sync("a").unwrap_err();
    assert_eq!(told(&path, "sync-errors"), 1, "told before the node stops");
    disk.sync("a").unwrap();

    set(&path, 4, "");
    disk.create("b").unwrap();
    assert!(disk.free_bytes().unwrap() > 0);
}

#[test]
fn clocks_jump_and_drift_while_the_file_says_so_and_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faults.toml");
    let faults = Faults::follow(&path).unwrap();
    assert_eq!(faults.clocks().1, 0);
    set(&path, 1, "wall-offset-ms = -60000");
    assert_eq!(faults.clocks().1, -60_000);

    set(&path, 2, "rate-ppm = 1000000");
    let (before_us, real) = (faults.clocks().0, Instant::now());
    while real.elapsed() < Duration::from_millis(50) {
        std::thread::yield_now();
    }
    let (after_us, off_ms) = faults.clocks();
    let passed_us = micros(real.elapsed());
    assert!(after_us - before_us >= 100_000 && after_us - before_us <= 2 * passed_us + 1_000);
    assert!(off_ms >= 50);
    let due = faults.instant(after_us + 100_000).unwrap();
    let wait = due.saturating_duration_since(Instant::now());
    assert!(wait <= Duration::from_millis(50), "{wait:?}");

    set(&path, 3, "");
    let (later_us, off_ms) = faults.clocks();
    assert!(later_us >= after_us && off_ms == 0);
    until(&path, "clock-reads", 2);
}

#[test]
fn a_file_that_makes_no_sense_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faults.toml");
    std::fs::write(&path, "sync-delay = 1").unwrap();
    assert!(Faults::follow(&path).is_err());
}
