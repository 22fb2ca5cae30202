//! Keys and ranges of keys.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::limits::KEY_BYTES_MAX;

/// A key: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8 without NUL, ordered by its bytes. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Parses a key.
    ///
    /// # Errors
    /// `InvalidArgument` if it is empty or holds a NUL, `TooLarge` if it is over the limit.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::invalid("key", "a key has at least one byte"));
        }
        check_text("key", text)?;
        Ok(Self(text.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), Error> {
    if text.len() > KEY_BYTES_MAX {
        return Err(Error::too_large("key_bytes_max", KEY_BYTES_MAX, text.len()));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, "a key holds no NUL byte"));
    }
    Ok(())
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which keys a listing or a watch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// Keys that start with this text; all keys when it is empty.
    Prefix(Arc<str>),
    /// Keys from `start` on, up to but not including `end` (to the last key when `None`).
    Between {
        /// The first key covered; empty for the very first.
        start: Arc<str>,
        /// The first key no longer covered.
        end: Option<Arc<str>>,
    },
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::Prefix("".into())
    }

    /// The keys under a prefix.
    ///
    /// # Errors
    /// As [`Key::parse`], but an empty prefix is every key.
    pub fn prefix(prefix: &str) -> Result<Self, Error> {
        check_text("prefix", prefix)?;
        Ok(Self::Prefix(prefix.into()))
    }

    /// The keys in `[start, end)`.
    ///
    /// # Errors
    /// `InvalidArgument` if the range is empty or reversed, or a bound is not a key.
    pub fn between(start: &str, end: Option<&str>) -> Result<Self, Error> {
        check_text("range_start", start)?;
        if let Some(end) = end {
            check_text("range_end", end)?;
            if end <= start {
                return Err(Error::invalid("range_end", "a range ends after it starts"));
            }
        }
        Ok(Self::Between {
            start: start.into(),
            end: end.map(Into::into),
        })
    }

    /// Where the range begins in key order.
    #[must_use]
    pub fn start(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix,
            Self::Between { start, .. } => start,
        }
    }

    /// The bytes of its bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Prefix(prefix) => prefix.len(),
            Self::Between { start, end } => start.len() + end.as_ref().map_or(0, |end| end.len()),
        }
    }

    /// Whether the range covers this key.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        let key = key.as_str();
        match self {
            Self::Prefix(prefix) => key.starts_with(&**prefix),
            Self::Between { start, end } => {
                key >= &**start && end.as_ref().is_none_or(|end| key < &**end)
            }
        }
    }
}
