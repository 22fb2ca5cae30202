//! Values: opaque bytes under one limit.

use bytes::Bytes;

use crate::error::Error;
use crate::limits::VALUE_BYTES_MAX;

/// A value: at most [`VALUE_BYTES_MAX`] opaque bytes. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value(Bytes);

impl Value {
    /// Takes bytes as a value.
    ///
    /// # Errors
    /// `TooLarge` if they are over the limit.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(Error::too_large(
                "value_bytes_max",
                VALUE_BYTES_MAX,
                bytes.len(),
            ));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}
