//! A span of time in microseconds, which people write as `250ms` or `1m 30s`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, in microseconds. In files it is text such as `250ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// So many milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// So many seconds.
    pub const fn secs(s: u64) -> Self {
        Self::millis(s * 1_000)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(Duration::from_micros(self.0)).fmt(f)
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format_args!(
                "`{text}` is no span of time such as \"250ms\" or \"1m 30s\": {error}"
            ))
        })?;
        let us = u64::try_from(parsed.as_micros());
        us.map(Self)
            .map_err(|_| de::Error::custom(format_args!("`{text}` is too long")))
    }
}
