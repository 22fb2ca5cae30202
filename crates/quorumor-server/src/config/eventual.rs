//! What was typed that only eventual mode has, checked.

use quorumor_core::{Durability, KeyRange};

use super::{ConfigError, Settings};

/// The longest pause between syncs: what came since is what a power cut may take.
const SYNC_INTERVAL_MS_MAX: u64 = 60_000;
/// Prefixes are looked through at each write.
const SIBLING_PREFIXES_MAX: usize = 64;

/// What only eventual mode has. Where something is `None` the mode's own default stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventualConfig {
    /// What a write survives that the node acknowledges.
    pub durability: Durability,
    /// With [`Durability::Interval`], how often the log is synced.
    pub sync_interval_ms: Option<u64>,
    /// Prefixes of keys that keep all their concurrent values.
    pub siblings: Vec<String>,
    /// Whom the collection of deletions doesn't wait for: who is down for longer.
    pub gc_grace_ms: Option<u64>,
    /// Who is forgotten: who is down or left for longer.
    pub reap_ms: Option<u64>,
}

impl EventualConfig {
    /// Refuses what makes no sense, and where the mode isn't served, anything at all.
    pub(super) fn parse(settings: &Settings, is_served: bool) -> Result<Self, ConfigError> {
        let config = Self {
            durability: parse_durability(settings.durability.as_deref())?,
            sync_interval_ms: settings.sync_interval_ms,
            siblings: settings.siblings.clone().unwrap_or_default(),
            gc_grace_ms: settings.gc_grace_ms,
            reap_ms: settings.reap_ms,
        };
        if !is_served && config != Self::default() {
            return Err(config.not_served());
        }
        config.check_interval()?;
        if config.siblings.len() > SIBLING_PREFIXES_MAX {
            let why = format!("at most {SIBLING_PREFIXES_MAX} prefixes are allowed");
            return Err(ConfigError::invalid("siblings", "...", why));
        }
        for prefix in &config.siblings {
            KeyRange::prefix(prefix)
                .map_err(|error| ConfigError::invalid("siblings", prefix, error.to_string()))?;
        }
        for (flag, ms) in [
            ("gc-grace", config.gc_grace_ms),
            ("reap-after", config.reap_ms),
        ] {
            if ms == Some(0) {
                return Err(ConfigError::invalid(flag, "0", "it is at least 1 ms"));
            }
        }
        Ok(config)
    }

    fn check_interval(&self) -> Result<(), ConfigError> {
        let Some(ms) = self.sync_interval_ms else {
            return Ok(());
        };
        let refused = |why: String| {
            Err(ConfigError::invalid(
                "sync-interval",
                format!("{ms}ms"),
                why,
            ))
        };
        if self.durability != Durability::Interval {
            return refused("it belongs to --durability interval".to_owned());
        }
        if !(1..=SYNC_INTERVAL_MS_MAX).contains(&ms) {
            return refused(format!("it is 1 to {SYNC_INTERVAL_MS_MAX} ms"));
        }
        Ok(())
    }

    /// Names the first setting that only eventual mode has.
    fn not_served(&self) -> ConfigError {
        let (flag, value) = if self.durability != Durability::default() {
            ("durability", self.durability.as_str().to_owned())
        } else if let Some(ms) = self.sync_interval_ms {
            ("sync-interval", format!("{ms}ms"))
        } else if let Some(prefix) = self.siblings.first() {
            ("siblings", prefix.clone())
        } else if let Some(ms) = self.gc_grace_ms {
            ("gc-grace", format!("{ms}ms"))
        } else {
            let ms = self.reap_ms.unwrap_or_default();
            ("reap-after", format!("{ms}ms"))
        };
        let why = "only eventual mode has a choice; strong mode fsyncs on a majority and orders every write";
        ConfigError::invalid(flag, value, why)
    }
}

fn parse_durability(text: Option<&str>) -> Result<Durability, ConfigError> {
    match text {
        None | Some("fsync") => Ok(Durability::Fsync),
        Some("interval") => Ok(Durability::Interval),
        Some("memory") => Ok(Durability::Memory),
        Some(other) => Err(ConfigError::invalid(
            "durability",
            other,
            "say fsync, interval or memory",
        )),
    }
}
