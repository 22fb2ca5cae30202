//! The machine that a report was made on, for people: figures of one aren't figures of another.
//!
//! Not a measurement. Called when a comparison is put together.

use std::fs;

use serde::{Deserialize, Serialize};

/// What is known of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// Its operating system.
    pub os: String,
    /// Its processor's architecture.
    pub arch: String,
    /// Its processor's name, where the system tells.
    pub processor: Option<String>,
    /// How many threads this program may run at once.
    pub cores: Option<u64>,
    /// Its memory in bytes, where the system tells.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let cores = std::thread::available_parallelism().ok();
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            processor: field("/proc/cpuinfo", "model name"),
            cores: cores.map(|cores| cores.get() as u64),
            memory_bytes: field("/proc/meminfo", "MemTotal").and_then(|text| {
                let kib: u64 = text.strip_suffix(" kB")?.parse().ok()?;
                Some(kib * 1_024)
            }),
        }
    }

    /// One line: "linux on x86_64, 4 cores (name), 16 GiB of memory".
    pub fn text(&self) -> String {
        let mut text = format!("{} on {}", self.os, self.arch);
        if let Some(cores) = self.cores {
            text.push_str(&format!(", {cores} cores"));
        }
        if let Some(processor) = &self.processor {
            text.push_str(&format!(" ({processor})"));
        }
        if let Some(bytes) = self.memory_bytes {
            let gib = bytes as f64 / f64::from(1 << 30);
            text.push_str(&format!(", {gib:.0} GiB of memory"));
        }
        text
    }
}

/// The first `name : value` of a file of the system; none where there is no such file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = values.filter(|(key, _)| key.trim() == name);
    values.next().map(|(_, value)| value.trim().to_owned())
}
