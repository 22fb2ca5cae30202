//! What the kernel says about processes: their processor time and memory, and how much of the machine somebody else
//! used meanwhile. Reads `/proc` and nothing else.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// More than so many cores of foreign work make a cell void.
pub const FOREIGN_CORES_MAX: f64 = 0.25;

/// Processor time and memory of processes at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    /// Ticks of the measured servers.
    servers: u64,
    /// Ticks of everything that belongs to the measurement.
    ours: u64,
    /// Ticks of the machine.
    machine: u64,
    rss_bytes_max: u64,
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Processor time of the measured servers, all together; zero if none is known.
    pub server_cpu: Duration,
    /// Memory of the biggest of them at the end.
    pub rss_bytes_max: u64,
    /// Cores that others kept busy, on average.
    pub foreign_cores: f64,
}

/// Who belongs to the measurement.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// The servers under load.
    pub servers: Vec<u32>,
    /// Others of ours: clusters that wait for their turn.
    pub waiting: Vec<u32>,
}

impl Processes {
    /// Reads everything now. A process that has ended counts with nothing from then on.
    #[must_use]
    pub fn sample(&self) -> Sample {
        let ticks = |pids: &[u32]| {
            pids.iter()
                .filter_map(|pid| process_ticks(*pid))
                .sum::<u64>()
        };
        let servers = ticks(&self.servers);
        let itself = process_ticks(std::process::id()).unwrap_or(0);
        Sample {
            at: Instant::now(),
            servers,
            ours: servers + ticks(&self.waiting) + itself,
            machine: machine_ticks().unwrap_or(0),
            rss_bytes_max: rss_bytes_max(&self.servers),
        }
    }
}

impl Sample {
    /// What happened since an earlier sample.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Usage {
        let elapsed = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let machine = self.machine.saturating_sub(earlier.machine);
        let foreign = machine.saturating_sub(self.ours.saturating_sub(earlier.ours));
        Usage {
            server_cpu: seconds(self.servers.saturating_sub(earlier.servers)),
            rss_bytes_max: self.rss_bytes_max,
            foreign_cores: if elapsed > 0.0 {
                seconds(foreign).as_secs_f64() / elapsed
            } else {
                0.0
            },
        }
    }
}

/// Whether so much foreign work makes a cell void.
#[must_use]
pub fn is_void(foreign_cores: f64, foreign_cores_max: f64) -> bool {
    foreign_cores > foreign_cores_max
}

/// Processor time of this process so far.
#[must_use]
pub(crate) fn own_cpu() -> Duration {
    seconds(process_ticks(std::process::id()).unwrap_or(0))
}

/// Memory of the biggest of some processes, now.
#[must_use]
pub fn rss_bytes_max(pids: &[u32]) -> u64 {
    rss_bytes(pids).into_iter().max().unwrap_or(0)
}

/// Memory of each of some processes, now; those that have ended are left out.
#[must_use]
pub fn rss_bytes(pids: &[u32]) -> Vec<u64> {
    let sizes = pids.iter().filter_map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        resident_bytes(&text)
    });
    sizes.collect()
}

/// Starts something on one core, where all that it starts stays too; on any if none is named. A kernel that doesn't allow it
/// is as good as none.
pub(crate) fn on_core<T>(core: Option<usize>, start: impl FnOnce() -> T) -> T {
    let before = core.and_then(|core| {
        let before = sched_getaffinity(None).ok()?;
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one).ok()?;
        Some(before)
    });
    let started = start();
    if let Some(before) = before {
        let _as_before = sched_setaffinity(None, &before);
    }
    started
}

/// Keeps every thread of this process off a core, if there is another.
pub(crate) fn keep_off(core: usize) {
    let Ok(mut others) = sched_getaffinity(None) else {
        return;
    };
    others.unset(core);
    if others.count() == 0 {
        return;
    }
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    for thread in threads {
        let id = thread.file_name().to_string_lossy().parse().ok();
        if let Some(id) = id.and_then(Pid::from_raw) {
            // One that has ended needs none.
            let _moved = sched_setaffinity(Some(id), &others);
        }
    }
}

/// What went over the loopback since it came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of packets, with the headers of IP and of what it carries.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

impl Traffic {
    /// Of the loopback that this process sees; none if the kernel doesn't say.
    #[must_use]
    pub fn of_loopback() -> Option<Self> {
        loopback_traffic(&std::fs::read_to_string("/proc/net/dev").ok()?)
    }

    /// What has come since an earlier look.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            packets: self.packets.saturating_sub(earlier.packets),
        }
    }
}

/// The received side of `lo`: every packet of a loopback is received once, and its bytes are counted without a link's header.
fn loopback_traffic(devices: &str) -> Option<Traffic> {
    let counters = devices
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    let mut counters = counters.split_ascii_whitespace();
    Some(Traffic {
        bytes: counters.next()?.parse().ok()?,
        packets: counters.next()?.parse().ok()?,
    })
}

fn seconds(ticks: u64) -> Duration {
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / hertz)
}

fn process_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    ticks_of_process(&text)
}

fn machine_ticks() -> Option<u64> {
    ticks_of_machine(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// User and system time of a `/proc/PID/stat` line. The name in brackets may hold anything, so fields are counted from
/// its end.
fn ticks_of_process(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// User, nice and system time of the first line of `/proc/stat`. Interrupts belong to nobody and are left out.
fn ticks_of_machine(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields = line.split_ascii_whitespace().take(3);
    let fields: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
    fields.map(|fields| fields.iter().sum())
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_brackets_and_blanks() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 120 45 0 0 20 0";
        assert_eq!(ticks_of_process(stat), Some(165));
        assert_eq!(ticks_of_process("7 (x) S 1"), None);
    }

    #[test]
    fn the_machines_work_is_user_nice_and_system() {
        let stat = "cpu  100 20 3 4000 9 8 7 6 0 0\ncpu0 1 1 1\n";
        assert_eq!(ticks_of_machine(stat), Some(123));
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12_288));
    }

    #[test]
    fn the_loopbacks_received_side_is_read() {
        let devices = "Inter-| Receive\n face |bytes packets\n  eth0: 9 9 9\n    lo: 1200 7 0 0 0 0 0 0 1200 7\n";
        let traffic = loopback_traffic(devices).unwrap();
        assert_eq!((traffic.bytes, traffic.packets), (1200, 7));
        assert_eq!(traffic.since(traffic), Traffic::default());
        assert_eq!(loopback_traffic("eth0: 1 2\n"), None);
    }

    #[test]
    fn foreign_work_is_what_the_machine_did_beyond_ours() {
        let start = Instant::now();
        let sample = |after_s, servers, ours, machine| Sample {
            at: start + Duration::from_secs(after_s),
            servers,
            ours,
            machine,
            rss_bytes_max: 5,
        };
        let hertz = rustix::param::clock_ticks_per_second();
        let before = sample(0, 0, 0, 0);
        let after = sample(2, hertz, 3 * hertz, 4 * hertz);
        let usage = after.since(&before);
        assert_eq!(usage.server_cpu, Duration::from_secs(1));
        assert!((usage.foreign_cores - 0.5).abs() < 1e-9, "{usage:?}");
        assert!(is_void(usage.foreign_cores, FOREIGN_CORES_MAX));
        assert!(!is_void(0.25, FOREIGN_CORES_MAX));
    }

    #[test]
    fn this_process_can_be_measured() {
        let me = Processes {
            servers: vec![std::process::id()],
            waiting: vec![],
        };
        let before = me.sample();
        assert!(before.rss_bytes_max > 1 << 20);
        let usage = me.sample().since(&before);
        assert!(usage.foreign_cores >= 0.0);
    }
}
